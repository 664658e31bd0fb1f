"""Uses the native protocol as a Python program does: native.py HOST PORT DATABASE."""
import datetime
import sys
import threading
import time
from decimal import Decimal

from clickhouse_driver import Client, errors

UTC = datetime.timezone.utc
TYPES = {
    "customer_id": "String", "phase": "LowCardinality(String)", "next_category": "LowCardinality(Nullable(String))",
    "note": "Nullable(String)", "orders": "UInt32", "orders_90d": "Nullable(UInt32)", "balance": "Int64",
    "shift": "Nullable(Int64)", "risk": "Float64", "cadence": "Nullable(Float64)", "first_seen": "DateTime64(3, 'UTC')",
    "last_order": "Nullable(DateTime64(3, 'UTC'))", "is_lead": "UInt8", "value": "Decimal(18, 2)",
    "margin": "Nullable(Decimal(18, 2))", "`odd, \\`name`": "UInt8",
}


def row(i):
    some = i % 2 == 0
    at = datetime.datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
    return ("c%05d" % i, "lead", "shoes" if some else None, "it's \\ ü" if some else None, i, i if some else None, -i,
            i if some else None, i / 8, i / 4 if some else None, at, at if some else None, i % 2, Decimal("1.25"),
            Decimal("-2.50") if some else None, 7)


def refused(code, run):
    try:
        run()
    except errors.ServerException as e:
        assert e.code == code, (e.code, code)
        return
    raise AssertionError("no exception %d" % code)


def use(host, port, database, compression):
    client = Client(host, port=port, database=database, compression=compression)
    client.execute("CREATE OR REPLACE TABLE t (%s) ENGINE = MergeTree ORDER BY customer_id"
                   % ", ".join(" ".join(item) for item in TYPES.items()))
    rows = [row(i) for i in range(1000)]
    assert client.execute("INSERT INTO t VALUES", rows, settings={"insert_block_size": 300}) == 1000
    assert client.execute("INSERT INTO t (*) VALUES", [row(1000)]) == 1
    assert client.execute("SELECT * FROM t ORDER BY customer_id") == rows + [row(1000)]
    names = [name for name, _ in client.execute("SELECT * FROM t WHERE orders > 5000", with_column_types=True)[1]]
    assert names == [name.strip("`").replace("\\", "") for name in TYPES], names

    refused(60, lambda: client.execute("SELECT * FROM nope"))
    refused(60, lambda: client.execute("INSERT INTO nope VALUES", [(1,)]))
    refused(62, lambda: client.execute("SELECT ("))

    client.execute("SET max_block_size = 11")
    size = "SELECT toString(getSetting('max_block_size'))"
    assert client.execute(size, settings={"max_block_size": 5, "no_such_setting": 1}) == [("5",)]
    assert client.execute(size) == [("11",)]
    client.execute("SET max_block_size = 65409")

    def cancel():
        time.sleep(0.3)
        client.connection.send_cancel()

    canceller = threading.Thread(target=cancel)
    canceller.start()
    assert client.execute("SELECT count(sipHash64(number)) FROM numbers(100000000000)") == []
    canceller.join()
    assert client.execute("SELECT count() FROM t") == [(1001,)]
    client.disconnect()

    client = Client(host, port=port, compression=compression, settings={"server_side_params": True})
    assert client.execute("SELECT {x:UInt8} + 1, {s:String}", {"x": 41, "s": "it's\ta tab"}) == [(42, "it's\ta tab")]
    client.disconnect()
    refused(516, lambda: Client(host, port=port, user="nobody", password="wrong").execute("SELECT 1"))


for method in (False, "lz4"):
    use(sys.argv[1], int(sys.argv[2]), sys.argv[3], method)
print("OK")
