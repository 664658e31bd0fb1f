-- Everything that happens to an order, in sequence (seq): it is completed, and then updated, refunded or cancelled.
--
-- From: events.
-- To:   order_changes. `step` is the customer's step at which the change takes effect; `epoch` is the seq of the change that
--       says what the order holds: the completion, or the last update.
--
-- The first completion of an order id counts. A refund or cancellation may come before its order and waits for it as long as
-- the allowed lateness; an update that is older than its order has nothing to say. After 400 business days an order is closed.
-- What names money in a currency without a rate is a dead letter, unless it is the order's own currency.
CREATE OR REPLACE TABLE order_changes ENGINE = MergeTree ORDER BY (customer, order_id, seq) AS
WITH
    placed AS (
        SELECT customer, order_id, min(step) AS born, argMin(at, step) AS placed_at, argMin(day, step) AS placed_on,
            argMin(currency, step) AS order_currency, argMin(rate, step) AS order_rate
        FROM events
        WHERE kind = 'order.completed'
        GROUP BY customer, order_id
    ),
    changes AS (
        SELECT
            e.customer AS customer, e.order_id AS order_id, e.at AS at, e.kind AS kind, e.amount AS amount, e.currency AS currency,
            e.rate AS rate, e.lines AS lines, e.step AS told, greatest(e.step, p.born) AS step,
            p.born AS born, p.placed_at AS placed_at, p.placed_on AS placed_on, p.order_currency AS order_currency, p.order_rate AS order_rate,
            multiIf(
                e.kind = 'order.updated', 1,
                e.kind = 'order.refunded' AND notEmpty(e.lines), toUInt8(arrayExists(line -> isNotNull(line.amount), e.lines)),
                e.kind = 'order.refunded', toUInt8(isNotNull(e.amount)),
                0) AS names_money
        FROM events AS e
        INNER JOIN placed AS p ON p.customer = e.customer AND p.order_id = e.order_id
        WHERE e.step = p.born
            OR e.kind IN ('order.updated', 'order.refunded', 'order.cancelled') AND e.step > p.born AND e.day - p.placed_on <= 400
            OR e.kind IN ('order.refunded', 'order.cancelled') AND e.step < p.born AND e.at + {lateness:Int64} >= p.placed_at
    )
SELECT *, max(if(kind IN ('order.completed', 'order.updated'), seq, 0)) OVER (PARTITION BY customer, order_id ORDER BY seq) AS epoch
FROM (
    SELECT *, toInt64(row_number() OVER (PARTITION BY customer, order_id ORDER BY step, told != born, told)) AS seq
    FROM changes
    WHERE NOT names_money OR currency = order_currency OR rate > 0
)
