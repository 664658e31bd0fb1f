-- create database zyklus
CREATE DATABASE IF NOT EXISTS `zyklus`;

-- create table schema_migrations
CREATE TABLE IF NOT EXISTS `zyklus`.`schema_migrations`
(
    version UInt32 COMMENT 'Version of the embedded migrations that was in force.',
    name String COMMENT 'What was done.',
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When, by the clock of the server.',
    checksum String COMMENT 'Of the SQL text.'
)
ENGINE = MergeTree
ORDER BY (version, name, applied_at)
COMMENT 'Log of the changes that zyklus migrate made to this database.';

-- create table customers
CREATE TABLE IF NOT EXISTS `zyklus`.`customers`
(
    `customer_id` String COMMENT 'User id, else anonymous id.',
    `phase` LowCardinality(String) COMMENT 'Phase of the customer\'s life cycle.',
    `next_category` LowCardinality(Nullable(String)) COMMENT 'Category of the expected next order.',
    `note` Nullable(String),
    `orders` UInt32 COMMENT 'Net orders.',
    `orders_90d` Nullable(UInt32) COMMENT 'Net orders of 90 days.',
    `balance` Int64 COMMENT 'A whole number.',
    `shift` Nullable(Int64) COMMENT 'A whole number or none.',
    `value_minor` Int64 COMMENT 'Net value. Unit: minor units.',
    `margin_minor` Nullable(Int64) COMMENT 'The customer\'s contribution, where costs are known. Unit: minor units.',
    `risk` Float64 COMMENT 'P(no order within H). Unit: share.',
    `cadence` Nullable(Float64) COMMENT 'Typical gap between orders. Unit: days.',
    `first_seen` DateTime64(3, 'UTC') COMMENT 'Earliest event.',
    `last_order` Nullable(DateTime64(3, 'UTC')) COMMENT 'Latest net order.',
    `is_lead` UInt8 COMMENT 'No order yet.',
    `opted_in` Nullable(UInt8) COMMENT 'Consent, if asked.',
    `partition` UInt32 COMMENT 'Partition of the input topic.',
    `version` Int64 COMMENT 'Version of the row.',
    `is_deleted` UInt8 COMMENT '1 where this version withdraws the row.'
)
ENGINE = ReplacingMergeTree(version, is_deleted)
ORDER BY (`customer_id`)
COMMENT 'Customers as they are now: one row each.';

-- create table phase_transitions
CREATE TABLE IF NOT EXISTS `zyklus`.`phase_transitions`
(
    `lifecycle` LowCardinality(String) COMMENT 'Id of the lifecycle.',
    `customer_id` String COMMENT 'User id, else anonymous id.',
    `at` DateTime64(3, 'UTC') COMMENT 'When the phase changed.',
    `to_phase` LowCardinality(String) COMMENT 'Phase after.',
    `version` Int64 COMMENT 'Version of the row.',
    `is_deleted` UInt8 COMMENT '1 where this version withdraws the row.'
)
ENGINE = ReplacingMergeTree(version, is_deleted)
ORDER BY (`lifecycle`, `customer_id`, `at`)
COMMENT 'Every change of phase.';

-- create table dead_letters
CREATE TABLE IF NOT EXISTS `zyklus`.`dead_letters`
(
    `topic` LowCardinality(String) COMMENT 'Topic.',
    `partition` UInt32 COMMENT 'Partition.',
    `position` Int64 COMMENT 'Offset.',
    `value` String COMMENT 'Original bytes.',
    `received_at` DateTime64(3, 'UTC') COMMENT 'When it was written.',
    `version` Int64 COMMENT 'Version of the row.',
    `is_deleted` UInt8 COMMENT '1 where this version withdraws the row.'
)
ENGINE = ReplacingMergeTree(version, is_deleted)
ORDER BY (`topic`, `partition`, `position`)
TTL toDateTime(received_at) + toIntervalDay(14)
COMMENT 'Records that could not be used.';

-- create table checkpoints
CREATE TABLE IF NOT EXISTS `zyklus`.`checkpoints`
(
    `topic` LowCardinality(String) COMMENT 'Input topic.',
    `partition` UInt32 COMMENT 'Partition.',
    `clock` DateTime64(3, 'UTC') COMMENT 'Event time reached.',
    `version` Int64 COMMENT 'Version of the row.',
    `is_deleted` UInt8 COMMENT '1 where this version withdraws the row.'
)
ENGINE = ReplacingMergeTree(version, is_deleted)
ORDER BY (`topic`, `partition`)
COMMENT 'How far each partition has been written.';

-- create table customer_days
CREATE TABLE IF NOT EXISTS `zyklus`.`customer_days`
(
    `customer_id` String COMMENT 'User id, else anonymous id.',
    `day` Date COMMENT 'The day.',
    `ended` Nullable(Date) COMMENT 'A date or none.',
    `value_minor` Int64 COMMENT 'Net value. Unit: minor units.',
    `version` Int64 COMMENT 'Version of the row.',
    `is_deleted` UInt8 COMMENT '1 where this version withdraws the row.'
)
ENGINE = ReplacingMergeTree(version, is_deleted)
PARTITION BY toYear(day)
ORDER BY (`customer_id`, `day`)
COMMENT 'Days that are over.';

-- create view v_phase_transitions
CREATE OR REPLACE VIEW `zyklus`.`v_phase_transitions`
(
    `lifecycle` LowCardinality(String) COMMENT 'Id of the lifecycle.',
    `customer_id` String COMMENT 'User id, else anonymous id.',
    `at` DateTime64(3, 'UTC') COMMENT 'When the phase changed.',
    `to_phase` LowCardinality(String) COMMENT 'Phase after.'
)
AS SELECT
    t.`lifecycle` AS `lifecycle`,
    t.`customer_id` AS `customer_id`,
    t.`at` AS `at`,
    t.`to_phase` AS `to_phase`
FROM `zyklus`.`phase_transitions` AS t FINAL
WHERE t.is_deleted = 0
COMMENT 'Every change of phase.';

-- create view v_dead_letters
CREATE OR REPLACE VIEW `zyklus`.`v_dead_letters`
(
    `topic` LowCardinality(String) COMMENT 'Topic.',
    `partition` UInt32 COMMENT 'Partition.',
    `position` Int64 COMMENT 'Offset.',
    `value` String COMMENT 'Original bytes.',
    `received_at` DateTime64(3, 'UTC') COMMENT 'When it was written.'
)
AS SELECT
    t.`topic` AS `topic`,
    t.`partition` AS `partition`,
    t.`position` AS `position`,
    t.`value` AS `value`,
    t.`received_at` AS `received_at`
FROM `zyklus`.`dead_letters` AS t FINAL
WHERE t.is_deleted = 0
COMMENT 'Records that could not be used.';

-- create view v_checkpoints
CREATE OR REPLACE VIEW `zyklus`.`v_checkpoints`
(
    `topic` LowCardinality(String) COMMENT 'Input topic.',
    `partition` UInt32 COMMENT 'Partition.',
    `clock` DateTime64(3, 'UTC') COMMENT 'Event time reached.'
)
AS SELECT
    t.`topic` AS `topic`,
    t.`partition` AS `partition`,
    t.`clock` AS `clock`
FROM `zyklus`.`checkpoints` AS t FINAL
WHERE t.is_deleted = 0
COMMENT 'How far each partition has been written.';

-- create view v_customer_days
CREATE OR REPLACE VIEW `zyklus`.`v_customer_days`
(
    `customer_id` String COMMENT 'User id, else anonymous id.',
    `day` Date COMMENT 'The day.',
    `ended` Nullable(Date) COMMENT 'A date or none.',
    `value` Decimal(18, 2) COMMENT 'Net value. Unit: reporting currency.'
)
AS SELECT
    t.`customer_id` AS `customer_id`,
    t.`day` AS `day`,
    t.`ended` AS `ended`,
    t.`value_minor` * toDecimal64('0.01', 2) AS `value`
FROM (SELECT customer_id, day, ended, value_minor FROM `zyklus`.customer_days FINAL WHERE is_deleted = 0
UNION ALL
SELECT customer_id, toDate(first_seen, 'UTC'), NULL, value_minor FROM `zyklus`.customers FINAL WHERE is_deleted = 0) AS t
COMMENT 'Days that are over, and the present one.';

-- create view v_customers
CREATE OR REPLACE VIEW `zyklus`.`v_customers`
(
    `customer_id` String COMMENT 'User id, else anonymous id.',
    `phase` LowCardinality(String) COMMENT 'Phase of the customer\'s life cycle.',
    `next_category` LowCardinality(Nullable(String)) COMMENT 'Category of the expected next order.',
    `note` Nullable(String),
    `orders` UInt32 COMMENT 'Net orders.',
    `orders_90d` Nullable(UInt32) COMMENT 'Net orders of 90 days.',
    `balance` Int64 COMMENT 'A whole number.',
    `shift` Nullable(Int64) COMMENT 'A whole number or none.',
    `value` Decimal(18, 2) COMMENT 'Net value. Unit: reporting currency.',
    `margin` Nullable(Decimal(18, 2)) COMMENT 'The customer\'s contribution, where costs are known. Unit: reporting currency.',
    `risk` Float64 COMMENT 'P(no order within H). Unit: share.',
    `cadence` Nullable(Float64) COMMENT 'Typical gap between orders. Unit: days.',
    `first_seen` DateTime64(3, 'UTC') COMMENT 'Earliest event.',
    `last_order` Nullable(DateTime64(3, 'UTC')) COMMENT 'Latest net order.',
    `is_lead` UInt8 COMMENT 'No order yet.',
    `opted_in` Nullable(UInt8) COMMENT 'Consent, if asked.',
    `partition` UInt32 COMMENT 'Partition of the input topic.',
    `recency` Nullable(Float64) COMMENT 'Since the latest order, at the partition\'s clock. Unit: days.'
)
AS SELECT
    t.`customer_id` AS `customer_id`,
    t.`phase` AS `phase`,
    t.`next_category` AS `next_category`,
    t.`note` AS `note`,
    t.`orders` AS `orders`,
    t.`orders_90d` AS `orders_90d`,
    t.`balance` AS `balance`,
    t.`shift` AS `shift`,
    t.`value_minor` * toDecimal64('0.01', 2) AS `value`,
    t.`margin_minor` * toDecimal64('0.01', 2) AS `margin`,
    t.`risk` AS `risk`,
    t.`cadence` AS `cadence`,
    t.`first_seen` AS `first_seen`,
    t.`last_order` AS `last_order`,
    t.`is_lead` AS `is_lead`,
    t.`opted_in` AS `opted_in`,
    t.`partition` AS `partition`,
    dateDiff('second', t.last_order, c.clock) / 86400 AS `recency`
FROM `zyklus`.`customers` AS t FINAL
LEFT JOIN `zyklus`.v_checkpoints AS c ON c.partition = t.partition
WHERE t.is_deleted = 0
COMMENT 'Customers as they are now: one row each.';

