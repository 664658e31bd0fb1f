-- What happened, clean: every event once, in the order in which it happened, numbered 1, 2, 3 … by customer (step).
--
-- From: arrivals; rates (date, currency, rate), where rate is the price of one of the currency in the reporting currency.
-- To:   events.
--
-- The order is by time, then by kind, then by id, whatever the order of arrival was. An event's rate is that of its business
-- day, or the last one of the week before; it is kept as billionths of reporting minor units per minor unit, 0 for none. An
-- order without a rate cannot be booked: it is a dead letter and never happened.
CREATE OR REPLACE TABLE events ENGINE = MergeTree ORDER BY (customer, step) AS
SELECT *, toInt64(row_number() OVER (PARTITION BY customer ORDER BY at, kind, id)) AS step
FROM (
    SELECT
        a.*,
        multiIf(a.currency = '', 1000000000, r.date >= a.day - 7, toInt64(r.rate * 1000000) * intDiv(100000, a.unit), 0) AS rate
    FROM (
        SELECT *, toDate(fromUnixTimestamp64Milli(at), {zone:String}) AS day
        FROM arrivals
        WHERE at <= {clock:Int64}
        ORDER BY partition, position
        LIMIT 1 BY customer, id
    ) AS a
    ASOF LEFT JOIN rates AS r ON r.currency = a.currency AND r.date <= a.day
)
WHERE kind != 'order.completed' OR rate > 0
