-- What the records of the input topic tell, one row each.
--
-- From: raw (partition, position, value), the topic as it stands in Kafka, in Segment's JSON.
-- To:   arrivals. Duplicates and disorder are still in it; what is no event, and heartbeats, are not.
--
-- Events of one instant count in the order of their kinds, those of one kind by id: a hash of the source and the message's id,
-- for it must be some order that everybody knows. Amounts are in minor units of the event's currency
-- ('' is the reporting one), quantities in thousandths; an amount that is not named is NULL.
CREATE OR REPLACE TABLE arrivals ENGINE = MergeTree ORDER BY (customer, at) AS
WITH
    JSONExtractString(value, 'type') AS call,
    JSONExtractString(value, 'userId') AS user,
    JSONExtractRaw(value, 'properties') AS properties,
    JSONExtractString(properties, 'currency') AS code,
    multiIf(code = 'JPY', 1, code IN ('KWD', 'TND'), 1000, 100) AS unit, -- minor units of one of the currency
    arrayMap(name -> CAST(floor(toDecimal128OrNull(JSONExtractRaw(properties, name), 6) * unit + toDecimal128('0.5', 1)), 'Nullable(Int64)'),
        ['revenue', 'total', 'shipping', 'tax']) AS money,
    arrayMap(line -> (
            JSONExtractString(line, 'product_id'),
            JSONExtractString(line, 'category'),
            CAST(JSONExtractFloat(line, 'quantity') * 1000, 'Int64'),
            CAST(floor(toDecimal256OrNull(JSONExtractRaw(line, 'price'), 6) * toInt64(JSONExtractFloat(line, 'quantity') * 1000) * unit / 1000
                + toDecimal256('0.5', 1)), 'Nullable(Int64)')),
        JSONExtractArrayRaw(properties, 'products')) AS products
SELECT
    partition,
    position,
    if(user != '', user, JSONExtractString(value, 'anonymousId')) AS customer,
    user != '' AS known,
    xxHash64(concat({source:String}, char(0), JSONExtractString(value, 'messageId'))) AS id,
    CAST(multiIf(
            call = 'identify', 'identity.identified',
            call = 'page', 'touch.page',
            call = 'track', transform(JSONExtractString(value, 'event'),
                ['Product Viewed', 'Product Added', 'Checkout Started', 'Order Completed', 'Order Updated', 'Order Refunded', 'Order Cancelled'],
                ['product.viewed', 'cart.changed', 'checkout.started', 'order.completed', 'order.updated', 'order.refunded', 'order.cancelled'], ''),
            ''),
        'Enum8('''' = 0, ''identity.identified'' = 1, ''touch.page'' = 2, ''product.viewed'' = 3, ''cart.changed'' = 4, ''checkout.started'' = 5,
            ''order.completed'' = 6, ''order.updated'' = 7, ''order.refunded'' = 8, ''order.cancelled'' = 9)') AS kind,
    toUnixTimestamp64Milli(parseDateTime64BestEffortOrZero(JSONExtractString(value, 'timestamp'), 3, 'UTC')) AS at,
    JSONExtractString(properties, 'order_id') AS order_id,
    if(code = {currency:String}, '', code) AS currency,
    unit,
    CAST(multiIf(
            kind IN ('order.completed', 'order.updated'), coalesce(money[1], money[2] - ifNull(money[3], 0) - ifNull(money[4], 0)),
            kind = 'order.refunded' AND empty(products), money[2],
            NULL),
        'Nullable(Int64)') AS amount,
    CAST(if(kind IN ('order.completed', 'order.updated', 'order.refunded'), products, []),
        'Array(Tuple(product String, category String, quantity Int64, amount Nullable(Int64)))') AS lines
FROM raw
WHERE isValidJSON(value) AND kind != '' AND at > 0 AND customer != ''
