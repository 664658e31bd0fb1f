-- v_phase_transitions of the lifecycle role5: who became what, when and why, silence included.
--
-- From: events, lives.
--
-- Between two events of a customer nothing changes but how long the last order is ago. So these are all instants at which a
-- phase can change: the events, and, if nothing has happened until then, the first millisecond in which the last order is
-- longer ago than 90, 180 or 365 days, or than three times the expected gap. That is the mean gap between purchase days with
-- one more gap of 60 days in it.
CREATE OR REPLACE TABLE phase_transitions ENGINE = MergeTree ORDER BY (customer_id, at) AS
WITH
    toInt64(86400000) AS days,
    -- The orders that count after each event.
    standing AS (
        SELECT
            e.customer AS customer, e.step AS step, any(e.at) AS at, any(toString(e.kind)) AS kind,
            countIf(o.born <= e.step AND e.step < o.died) AS orders,
            maxIf(o.at, o.born <= e.step AND e.step < o.died) AS last,
            uniqExactIf(o.day, o.born <= e.step AND e.step < o.died) AS purchase_days,
            toInt64(maxIf(o.day, o.born <= e.step AND e.step < o.died) - minIf(o.day, o.born <= e.step AND e.step < o.died)) AS span
        FROM events AS e
        LEFT JOIN lives AS o ON o.customer = e.customer
        GROUP BY customer, step
    ),
    -- How long each stays as it is: until the next event, or beyond the clock.
    stays AS (
        SELECT *, leadInFrame(at, 1, {clock:Int64} + 1) OVER (PARTITION BY customer ORDER BY step ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS until
        FROM standing
    ),
    instants AS (
        SELECT
            customer, step, orders, last, purchase_days, span,
            arrayJoin(arrayConcat([at], arrayFilter(silent -> silent > at AND silent < until, if(orders = 0, [], arrayDistinct([
                last + 90 * days + 1,
                last + 180 * days + 1,
                last + 365 * days + 1,
                last + intDiv(3 * (60 + span) * days, toInt64(greatest(purchase_days, 1))) + 1]))))) AS instant,
            if(instant = at, kind, 'deadline') AS cause,
            instant - last AS silence
        FROM stays
    ),
    phases AS (
        SELECT
            *,
            multiIf(
                orders = 0, 'prospect',
                silence > 365 * days, 'former',
                silence * purchase_days > 3 * (60 + span) * days OR silence > 180 * days OR orders = 1 AND silence > 90 * days, 'inactive',
                orders = 1, 'new',
                'active') AS phase
        FROM instants
    ),
    moves AS (
        SELECT *, lagInFrame(phase) OVER (PARTITION BY customer ORDER BY step, instant ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS before
        FROM phases
    ),
    -- Several events of one instant move a customer once, from where it was to where it is after the last of them.
    changes AS (
        SELECT customer, instant, argMin(before, step) AS from_phase, argMax(phase, step) AS to_phase, argMax(m.cause, step) AS cause
        FROM moves AS m
        WHERE before != phase
        GROUP BY customer, instant
        HAVING from_phase != to_phase
    )
SELECT
    'role5' AS lifecycle,
    customer AS customer_id,
    fromUnixTimestamp64Milli(instant, 'UTC') AS at,
    from_phase,
    to_phase,
    if(from_phase = '', '', transform(from_phase, ['inactive', 'former'], ['at_risk', 'lost'], 'none')) AS from_churned,
    transform(to_phase, ['inactive', 'former'], ['at_risk', 'lost'], 'none') AS to_churned,
    cause,
    to_phase AS rule,
    1 + sum(from_churned = 'lost' AND to_churned = 'none') OVER (PARTITION BY customer ORDER BY instant) AS cycle, -- who comes back begins anew
    1 AS lifecycle_version,
    0 AS artefact_version
FROM changes
