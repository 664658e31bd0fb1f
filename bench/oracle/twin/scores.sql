-- v_customers: how regularly a customer buys, when the next order is due, and how likely there is none. NULL without an order.
--
-- From: lives.
--
-- The purchase model is MBG/NBD with r = 0.525, alpha = 6.183, a = 0.891, b = 1.614, by weeks: x purchase days after the first,
-- t_x from the first to the last purchase day, T from the beginning of the first one until the clock. Then
--     P(alive)   = 1 / (1 + a / (b + x) * ((alpha + T) / (alpha + t_x)) ^ (r + x))
--     churn risk = 1 - P(alive) * (1 - ((alpha + T) / (alpha + T + h)) ^ (r + x)),   h = 90 days
CREATE OR REPLACE TABLE scores ENGINE = MergeTree ORDER BY customer_id AS
WITH
    toInt64(86400000) AS days,
    (0.525, 6.183, 0.891, 1.614) AS mbg,
    bought AS (
        SELECT customer, toInt64(max(day) - min(day)) AS span, toInt64(uniqExact(day)) - 1 AS x, max(l.at) AS last,
            toInt64(toUnixTimestamp(toDateTime(min(day), {zone:String}))) * 1000 AS birth
        FROM lives AS l
        WHERE died = never
        GROUP BY customer
    ),
    model AS (
        SELECT
            *,
            (60 + span) / (1 + x) AS gap,
            ({clock:Int64} - last) / days AS silence,
            span / 7 AS t_x,
            greatest(({clock:Int64} - birth) / (7 * days), t_x) AS t,
            1 / (1 + mbg.3 / (mbg.4 + x) * pow((mbg.2 + t) / (mbg.2 + t_x), mbg.1 + x)) AS alive,
            1 - alive * (1 - pow((mbg.2 + t) / (mbg.2 + t + 90 / 7), mbg.1 + x)) AS risk
        FROM bought
    )
SELECT
    customer AS customer_id,
    x AS repeat_purchase_days,
    span AS purchase_span_days,
    fromUnixTimestamp64Milli(birth, 'UTC') AS first_purchase_day_at,
    gap AS expected_gap_days,
    fromUnixTimestamp64Milli(last + toInt64(round(gap * days)), 'UTC') AS expected_next_order_at,
    silence AS days_since_last_order_now,
    silence / gap AS overdue_ratio_now,
    alive AS p_alive_now,
    risk AS churn_risk_now,
    multiIf(risk >= 0.8, 'high', risk >= 0.5, 'medium', 'low') AS churn_risk_band
FROM model
