-- What refunds give back line by line.
--
-- From: order_changes.
-- To:   returned_lines. `total` is how much of the product has come back with it, since the order has held what it holds.
CREATE OR REPLACE TABLE returned_lines ENGINE = MergeTree ORDER BY (customer, order_id, epoch, seq, number) AS
SELECT
    customer, order_id, epoch, seq, number, line.product AS product, line.quantity AS quantity, line.amount AS amount,
    sum(quantity) OVER (PARTITION BY customer, order_id, epoch, product ORDER BY seq, number ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS total
FROM order_changes
ARRAY JOIN lines AS line, arrayEnumerate(lines) AS number
WHERE kind = 'order.refunded'
