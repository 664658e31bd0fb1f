-- Orders as they are at the clock, and when they counted: from step `born` until before step `died` of their customer.
--
-- From: ledger.
-- To:   lives. Money is in minor units: `value` and `refunded` of the order's own currency, `worth` and `back` of the reporting
--       one. An order is converted as a whole, rounded once, half up.
CREATE OR REPLACE TABLE lives ENGINE = MergeTree ORDER BY (customer, order_id) AS
SELECT
    *,
    if(order_currency = '', value, toInt64(intDiv(toInt256(value) * order_rate * 2 + 1000000000, 2000000000))) AS worth,
    multiIf(
        died < never, worth,
        order_currency = '', refunded,
        value = 0, 0,
        least(worth, toInt64(intDiv(toInt256(worth) * refunded * 2 + value, 2 * toInt256(value))))) AS back
FROM (
    WITH toInt64(9223372036854775807) AS never
    SELECT
        customer, order_id, never,
        any(placed_at) AS at, any(placed_on) AS day, any(l.order_currency) AS order_currency, any(l.order_rate) AS order_rate,
        any(l.born) AS born,
        min(if(ends, step, never)) AS died,
        max(kind = 'order.cancelled') AS cancelled,
        argMax(l.content_at, seq) AS content_at, argMax(l.epoch, seq) AS epoch, argMax(l.content, seq) AS content,
        argMax(l.value, seq) AS value, argMax(l.refunded, seq) AS refunded
    FROM ledger AS l
    GROUP BY customer, order_id
)
