-- v_orders: orders as they are now, net of refunds and cancellations.
--
-- From: lives.
CREATE OR REPLACE TABLE orders ENGINE = MergeTree ORDER BY (customer_id, order_id) AS
SELECT
    customer AS customer_id,
    order_id,
    fromUnixTimestamp64Milli(l.at, 'UTC') AS at,
    fromUnixTimestamp64Milli(l.content_at, 'UTC') AS updated_at,
    multiIf(cancelled, 'cancelled', died < never, 'refunded', back > 0, 'partially_refunded', 'completed') AS status,
    worth * toDecimal64('0.01', 2) AS value,
    back * toDecimal64('0.01', 2) AS refunded,
    (worth - back) * toDecimal64('0.01', 2) AS net_value,
    length(content) AS lines,
    arrayStringConcat(arrayDistinct(arrayFilter(name -> name != '', content.category)), ',') AS categories,
    order_currency AS currency,
    if(order_currency = '', NULL, l.value) AS original_value_minor,
    if(order_currency = '', NULL, if(died < never, 0, l.value - l.refunded)) AS original_net_minor
FROM lives AS l
