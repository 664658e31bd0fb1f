-- What an order holds, line by line, in each of its epochs.
--
-- From: order_changes.
-- To:   order_lines. Of what comes back of a product, a line takes the units after `before`, up to its own quantity.
CREATE OR REPLACE TABLE order_lines ENGINE = MergeTree ORDER BY (customer, order_id, epoch, number) AS
SELECT
    customer, order_id, epoch, number, line.product AS product, line.category AS category, line.quantity AS quantity,
    ifNull(line.amount, 0) AS amount,
    sum(quantity) OVER (PARTITION BY customer, order_id, epoch, product ORDER BY number) - quantity AS before
FROM order_changes
ARRAY JOIN lines AS line, arrayEnumerate(lines) AS number
WHERE seq = epoch
