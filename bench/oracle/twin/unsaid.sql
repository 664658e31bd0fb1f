-- Customers about whom these queries do not say everything, and why. They are left out of comparisons.
--
-- From: events, order_changes.
-- To:   unsaid.
CREATE OR REPLACE TABLE unsaid ENGINE = MergeTree ORDER BY customer_id AS
WITH placed AS (
    SELECT customer, order_id, min(step) AS born, argMin(day, step) AS placed_on
    FROM events
    WHERE kind = 'order.completed'
    GROUP BY customer, order_id
)
SELECT customer AS customer_id, arrayStringConcat(arraySort(groupUniqArray(reason)), ', ') AS why
FROM (
    -- What was refunded in other currencies is kept apart from what was refunded in the order's own; both are limited by what
    -- is left, so the result depends on all that came before.
    SELECT customer, 'an order and its refund or update are in different currencies' AS reason
    FROM order_changes
    WHERE names_money AND currency != order_currency AND (kind = 'order.updated' OR order_currency != '')
    UNION ALL
    -- The id of an order that is closed is free again, and so on for each that follows.
    SELECT e.customer, 'an order id comes again after the horizon'
    FROM events AS e
    INNER JOIN placed AS p ON p.customer = e.customer AND p.order_id = e.order_id
    WHERE e.kind = 'order.completed' AND e.day - p.placed_on > 400
    UNION ALL
    -- A refund without an order may be of one that is closed: it corrects the total, as far as there is any when it has waited
    -- for its order in vain.
    SELECT e.customer, 'a refund without an order, where there are closed ones'
    FROM events AS e
    INNER JOIN placed AS p ON p.customer = e.customer
    LEFT ANTI JOIN order_changes AS c ON c.customer = e.customer AND c.told = e.step
    WHERE e.kind = 'order.refunded' AND isNotNull(e.amount) AND toDate(fromUnixTimestamp64Milli(e.at + {lateness:Int64}), {zone:String}) - p.placed_on > 400
)
GROUP BY customer
