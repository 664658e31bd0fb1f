-- How likely the next order holds each category: the customer's own orders, each of half the weight after 180 days.
--
-- From: lives, order_lines, returned_lines.
-- To:   next_categories. An order counts once in each category of which something was kept.
CREATE OR REPLACE TABLE next_categories ENGINE = MergeTree ORDER BY (customer_id, category) AS
WITH
    kept AS (
        SELECT o.customer AS customer, o.order_id AS order_id, o.category AS category
        FROM order_lines AS o
        LEFT JOIN (
            SELECT customer, order_id, epoch, product, max(total) AS total
            FROM returned_lines
            GROUP BY customer, order_id, epoch, product
        ) AS r ON r.customer = o.customer AND r.order_id = o.order_id AND r.epoch = o.epoch AND r.product = o.product
        INNER JOIN lives AS l ON l.customer = o.customer AND l.order_id = o.order_id AND l.epoch = o.epoch
        WHERE l.died = l.never AND o.category != '' AND (o.quantity = 0 OR r.total - o.before < o.quantity)
        GROUP BY customer, order_id, category
    ),
    weights AS (
        SELECT k.customer AS customer, category, sum(exp2((l.at - {clock:Int64}) / 86400000 / 180)) AS weight
        FROM kept AS k
        INNER JOIN lives AS l ON l.customer = k.customer AND l.order_id = k.order_id
        GROUP BY customer, category
    )
SELECT
    customer AS customer_id,
    category,
    weight / sum(weight) OVER (PARTITION BY customer) AS probability,
    toInt64(row_number() OVER (PARTITION BY customer ORDER BY weight DESC, category)) AS rank
FROM weights
