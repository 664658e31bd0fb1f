CREATE OR REPLACE TABLE client_rows
(
    id String,
    phase LowCardinality(String),
    category LowCardinality(Nullable(String)),
    note Nullable(String),
    flags UInt8,
    small UInt16,
    orders UInt32,
    version UInt64,
    balance Int64,
    shift Nullable(Int64),
    risk Float64,
    cadence Nullable(Float64),
    open Bool,
    at DateTime64(3, 'UTC'),
    last_order Nullable(DateTime64(3, 'UTC')),
    day Date,
    tags Array(String),
    net Decimal(18, 2),
    by_day Map(String, Int64)
)
ENGINE = ReplacingMergeTree(version)
ORDER BY id
