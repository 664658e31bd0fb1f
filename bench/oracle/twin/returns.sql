-- What each refund of lines is worth, and whether nothing of the order is left after it.
--
-- From: order_changes, order_lines, returned_lines.
-- To:   returns. `own` is by the prices of the order, in its currency: where the refund names no price. `named` is by those of
--       the refund, in the refund's currency. Nobody can return more of a product than the order holds of it; where the order
--       names no lines, the refund is believed.
CREATE OR REPLACE TABLE returns ENGINE = MergeTree ORDER BY (customer, order_id, seq) AS
WITH
    refunds AS (
        SELECT r.customer AS customer, r.order_id AS order_id, r.seq AS seq, r.epoch AS epoch, length(c.lines) AS order_lines
        FROM order_changes AS r
        INNER JOIN order_changes AS c ON c.customer = r.customer AND c.order_id = r.order_id AND c.seq = r.epoch
        WHERE r.kind = 'order.refunded' AND notEmpty(r.lines)
    ),
    -- Each returned line, with the share that each line of the order takes: its units from `since` to `until`.
    shares AS (
        SELECT
            r.customer AS customer, r.order_id AS order_id, r.seq AS seq, r.number AS number, r.quantity AS quantity, r.amount AS amount,
            o.amount AS price, greatest(o.quantity, 1) AS of,
            greatest(0, least(o.quantity, r.total - o.before)) AS until,
            greatest(0, least(o.quantity, r.total - r.quantity - o.before)) AS since
        FROM returned_lines AS r
        LEFT JOIN order_lines AS o ON o.customer = r.customer AND o.order_id = r.order_id AND o.epoch = r.epoch AND o.product = r.product
    ),
    worth AS (
        SELECT customer, order_id, seq, number, any(s.quantity) AS quantity, any(s.amount) AS amount, sum(until - since) AS taken,
            sum(intDiv(price * until, of) - intDiv(price * since, of)) AS by_the_order
        FROM shares AS s
        GROUP BY customer, order_id, seq, number
    ),
    money AS (
        SELECT w.customer AS customer, w.order_id AS order_id, w.seq AS seq,
            sum(if(isNull(w.amount), by_the_order, 0)) AS own,
            sum(if(w.quantity > 0, intDiv(ifNull(w.amount, 0) * if(r.order_lines = 0, w.quantity, taken), greatest(w.quantity, 1)), 0)) AS named
        FROM worth AS w
        INNER JOIN refunds AS r ON r.customer = w.customer AND r.order_id = w.order_id AND r.seq = w.seq
        GROUP BY customer, order_id, seq
    ),
    left_over AS (
        SELECT customer, order_id, seq, max(back < upto) AS something
        FROM (
            SELECT f.customer AS customer, f.order_id AS order_id, f.seq AS seq, o.number AS line, any(o.before + o.quantity) AS upto,
                sum(if(r.seq <= f.seq, r.quantity, 0)) AS back
            FROM refunds AS f
            INNER JOIN order_lines AS o ON o.customer = f.customer AND o.order_id = f.order_id AND o.epoch = f.epoch
            LEFT JOIN returned_lines AS r ON r.customer = o.customer AND r.order_id = o.order_id AND r.epoch = o.epoch AND r.product = o.product
            WHERE o.quantity > 0
            GROUP BY customer, order_id, seq, line
        )
        GROUP BY customer, order_id, seq
    )
SELECT m.customer AS customer, m.order_id AS order_id, m.seq AS seq, m.own AS own, m.named AS named,
    f.order_lines > 0 AND NOT l.something AS everything
FROM money AS m
INNER JOIN refunds AS f ON f.customer = m.customer AND f.order_id = m.order_id AND f.seq = m.seq
LEFT JOIN left_over AS l ON l.customer = m.customer AND l.order_id = m.order_id AND l.seq = m.seq
