-- v_customers: who the customers are and what they have bought, in counts, sums, first and last.
--
-- From: events, lives, phase_transitions.
--
-- An order counts on its own business day, whenever it was refunded or changed, and windows end with the day of the clock.
CREATE OR REPLACE TABLE customers ENGINE = MergeTree ORDER BY customer_id AS
WITH
    toDate(fromUnixTimestamp64Milli({clock:Int64}), {zone:String}) AS today,
    toDecimal64('0.01', 2) AS cent,
    touched AS (
        SELECT customer, toUInt8(max(e.known)) AS known, count() AS touches, min(e.at) AS first_seen, max(e.at) AS last_seen
        FROM events AS e
        GROUP BY customer
    ),
    bought AS (
        SELECT
            customer,
            countIf(counts) AS orders, sum(worth - back) AS net, sum(back) AS refunded,
            minIf(at, counts) AS first_order, maxIf(at, counts) AS last_order, uniqExactIf(day, counts) AS purchase_days,
            countIf(counts AND day > today - 7) AS orders_7d, sumIf(worth - back, day > today - 7) AS net_7d,
            countIf(counts AND day > today - 30) AS orders_30d, sumIf(worth - back, day > today - 30) AS net_30d,
            countIf(counts AND day > today - 90) AS orders_90d, sumIf(worth - back, day > today - 90) AS net_90d,
            countIf(counts AND day > today - 365) AS orders_365d, sumIf(worth - back, day > today - 365) AS net_365d
        FROM (SELECT *, died = never AS counts FROM lives)
        GROUP BY customer
    ),
    phase AS (
        SELECT
            customer_id AS customer, argMax(to_phase, t.at) AS role5_phase, max(t.at) AS role5_since,
            argMax(from_phase, t.at) AS role5_previous_phase, argMax(cycle, t.at) AS role5_cycle
        FROM phase_transitions AS t
        GROUP BY customer
    )
SELECT
    t.customer AS customer_id,
    t.known AS known,
    touches,
    fromUnixTimestamp64Milli(first_seen, 'UTC') AS first_seen_at,
    fromUnixTimestamp64Milli(last_seen, 'UTC') AS last_seen_at,
    orders,
    net * cent AS net_value,
    refunded * cent AS refunded_value,
    if(orders = 0, NULL, fromUnixTimestamp64Milli(first_order, 'UTC')) AS first_order_at,
    if(orders = 0, NULL, fromUnixTimestamp64Milli(last_order, 'UTC')) AS last_order_at,
    purchase_days,
    orders_7d, net_7d * cent AS net_value_7d,
    orders_30d, net_30d * cent AS net_value_30d,
    orders_90d, net_90d * cent AS net_value_90d,
    orders_365d, net_365d * cent AS net_value_365d,
    role5_phase, role5_since, role5_previous_phase, role5_cycle
FROM touched AS t
LEFT JOIN bought AS b ON b.customer = t.customer
LEFT JOIN phase AS p ON p.customer = t.customer
