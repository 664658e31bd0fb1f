"""Uses the embedded ClickHouse as clickhouse-connect does. Arguments: host, port, database, file with the table."""

import sys
import threading
import time
from datetime import date, datetime, timezone
from decimal import Decimal

import clickhouse_connect
from clickhouse_connect.driver.exceptions import DatabaseError
from clickhouse_connect.driver.external import ExternalData

host, port, database, table = sys.argv[1:]
AT = datetime(2026, 3, 4, 5, 6, 7, 89000, tzinfo=timezone.utc)
ROWS = [
    ["ä'\n\t", "lead", None, None, 0, 1, 2, 2**63, -(2**63), None, 0.5, None, True, AT, None, date(2026, 3, 4), [], Decimal("-1.25"), {}],
    ["", "", "shoes", "x", 255, 65535, 2**32 - 1, 0, 2**63 - 1, -7, -1e300, 2.5, False, AT, AT, date(1970, 1, 1), ["a", ""], Decimal("12345678.90"), {"a": -1}],
]


def check(got, want, what):
    if got != want:
        raise SystemExit(f"{what}: {got!r} instead of {want!r}")


def refused(code, call):
    try:
        call()
    except DatabaseError as error:
        check(f"code: {code}" in str(error).lower(), True, f"error {error}")
        return str(error)
    raise SystemExit(f"no error {code}")


def round_trip(client):
    with open(table, encoding="utf-8") as file:
        client.command(file.read())
    client.insert("client_rows", ROWS)
    result = client.query("SELECT * FROM client_rows ORDER BY id DESC")
    got = [list(row) for row in result.result_rows]
    for row in got:
        row[13] = row[13].replace(tzinfo=timezone.utc)
        row[14] = row[14] and row[14].replace(tzinfo=timezone.utc)
    check(got, ROWS, "rows")
    check(client.command("SELECT count() FROM client_rows"), 2, "count")
    check(client.query("SELECT id FROM client_rows WHERE id = 'none'").result_rows, [], "no rows")


def parameters(client):
    row = client.query("SELECT {n:Int64}, {s:String}, {l:Array(String)}, {t:DateTime64(3)}", parameters={"n": -5, "s": "it's\t\\ ä", "l": ["a", "b'"], "t": AT})
    check(row.result_rows[0][:3], (-5, "it's\t\\ ä", ["a", "b'"]), "parameters")
    check(client.query("SELECT getSetting('max_block_size')", settings={"max_block_size": 77}).result_rows[0][0], 77, "setting")


def streams(client):
    total = 0
    with client.query_row_block_stream("SELECT number, toString(number) FROM numbers(500000)") as stream:
        for block in stream:
            total += len(block)
    check(total, 500000, "streamed rows")
    refused(395, lambda: read_all(client))


def read_all(client):
    with client.query_row_block_stream("SELECT number, throwIf(number = 3000000) FROM numbers(4000000)") as stream:
        for _ in stream:
            pass


def sessions(client):
    client.command("CREATE TEMPORARY TABLE mine (a UInt8)")
    client.insert("mine", [[1], [2]], column_names=["a"], column_type_names=["UInt8"])
    check(client.query("SELECT sum(a) FROM mine").result_rows[0][0], 3, "temporary table")
    external = ExternalData(file_name="ext", data=b"1,x\n2,y\n", fmt="CSV", structure="n UInt8, s String")
    check(client.query("SELECT s FROM ext WHERE n = 2", external_data=external).result_rows, [("y",)], "external table")


def cancel(client):
    killer = clickhouse_connect.get_client(host=host, port=int(port), database=database)
    failed = []
    query = "SELECT count(sipHash64(number)) FROM numbers(100000000000)"
    thread = threading.Thread(target=lambda: failed.append(refused(394, lambda: client.query(query, settings={"query_id": "python-cancel"}))))
    thread.start()
    while killer.command("SELECT count() FROM system.processes WHERE query_id = 'python-cancel'") != 1:
        time.sleep(0.02)
    killer.command("KILL QUERY WHERE query_id = 'python-cancel' SYNC")
    thread.join()
    check(len(failed), 1, "cancelled")


for compress in (False, "lz4", "zstd", "gzip", "br"):
    if compress == "br":
        try:
            import brotli  # noqa: F401
        except ImportError:
            continue
    connection = clickhouse_connect.get_client(host=host, port=int(port), database=database, compress=compress)
    round_trip(connection)
    connection.close()
connection = clickhouse_connect.get_client(host=host, port=int(port), database=database)
parameters(connection)
streams(connection)
sessions(connection)
refused(60, lambda: connection.query("SELECT * FROM no_such_table"))
refused(47, lambda: connection.command("SELECT nope"))
refused(60, lambda: connection.insert("no_such_table", [[1]]))
cancel(connection)
print("OK")
