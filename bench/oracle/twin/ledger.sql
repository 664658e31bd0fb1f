-- What an order is worth after each of its changes, in minor units of its own currency.
--
-- From: order_changes, returns.
-- To:   ledger. `ends` marks changes after which the order does not count any more: it is cancelled, or nothing is left of it.
--
-- What has been given back never exceeds the value, which an update may lower: after each change it is
-- least(value, given back before + now). Said at once for all changes: of all that is given back in sum, as much is lost as
-- the sum has ever been above the value.
CREATE OR REPLACE TABLE ledger ENGINE = MergeTree ORDER BY (customer, order_id, seq) AS
WITH
    gifts AS (
        SELECT
            c.customer AS customer, c.order_id AS order_id, c.seq AS seq, c.step AS step, c.kind AS kind, c.epoch AS epoch, c.born AS born,
            c.placed_at AS placed_at, c.placed_on AS placed_on, c.order_currency AS order_currency, c.order_rate AS order_rate,
            h.at AS content_at, ifNull(h.amount, 0) AS value, h.lines AS content,
            c.kind = 'order.refunded' AND if(empty(c.lines), isNull(c.amount), r.everything) AS whole,
            if(notEmpty(c.lines), r.named, ifNull(c.amount, 0)) AS named,
            if(c.kind = 'order.refunded', r.own + if(c.currency = c.order_currency, named,
                toInt64(intDiv(toInt256(named) * c.rate * 2 + 1000000000, 2000000000))), 0) AS gift
        FROM order_changes AS c
        INNER JOIN order_changes AS h ON h.customer = c.customer AND h.order_id = c.order_id AND h.seq = c.epoch
        LEFT JOIN returns AS r ON r.customer = c.customer AND r.order_id = c.order_id AND r.seq = c.seq
    ),
    sums AS (SELECT *, sum(gift) OVER (PARTITION BY customer, order_id ORDER BY seq) AS given FROM gifts)
SELECT
    * EXCEPT (given),
    least(given, given + min(value - given) OVER (PARTITION BY customer, order_id ORDER BY seq)) AS refunded,
    kind = 'order.cancelled' OR kind = 'order.refunded' AND (whole OR value > 0 AND refunded = value) AS ends
FROM sums
