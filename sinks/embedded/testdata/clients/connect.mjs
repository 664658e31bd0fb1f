// Uses the embedded ClickHouse as @clickhouse/client does. Arguments: module, address, database, file with the table.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [module, address, database, table] = process.argv.slice(2);
const { createClient, ClickHouseError } = createRequire(module + "/")("@clickhouse/client");
const connect = (more) => createClient({ url: `http://${address}`, database, request_timeout: 60_000, log: { level: 127 }, ...more });

const row = (more) => ({
  id: "ä'\n\t", phase: "lead", category: null, note: null, flags: 0, small: 1, orders: 2, version: "9223372036854775808",
  balance: "-9223372036854775808", shift: null, risk: 0.5, cadence: null, open: true, at: "2026-03-04 05:06:07.089",
  last_order: null, day: "2026-03-04", tags: [], net: -1.25, by_day: {}, ...more,
});
const rows = [
  row({}),
  row({ id: "", category: "shoes", note: "x", flags: 255, shift: "-7", cadence: 2.5, open: false, last_order: "2026-03-04 05:06:07.089", tags: ["a", ""], by_day: { a: "-1" } }),
];

async function refused(code, call) {
  await assert.rejects(call, (error) => {
    assert.ok(error instanceof ClickHouseError, String(error));
    assert.equal(error.code, String(code));
    return true;
  });
}

async function roundTrip(client) {
  await client.command({ query: readFileSync(table, "utf8") });
  await client.insert({ table: "client_rows", values: rows, format: "JSONEachRow" });
  const settings = { output_format_json_quote_64bit_integers: 1 };
  const query = "SELECT * FROM client_rows ORDER BY id DESC";
  const each = await client.query({ query, format: "JSONEachRow", clickhouse_settings: settings });
  assert.deepEqual(await each.json(), rows);
  const whole = await (await client.query({ query, format: "JSON", clickhouse_settings: settings })).json();
  assert.deepEqual(whole.data, rows);
  assert.equal(whole.rows, 2);
  const none = await (await client.query({ query: "SELECT id FROM client_rows WHERE id = 'none'", format: "JSONCompact" })).json();
  assert.deepEqual([none.data, none.meta], [[], [{ name: "id", type: "String" }]]);
}

async function parameters(client) {
  const query = "SELECT {n:Int64} AS n, {s:String} AS s, {l:Array(String)} AS l, getSetting('max_block_size') AS b";
  const query_params = { n: -5, s: "it's\t\\ ä", l: ["a", "b'"] };
  const result = await client.query({ query, query_params, format: "JSONEachRow", clickhouse_settings: { max_block_size: "77" } });
  assert.deepEqual(await result.json(), [{ n: -5, s: "it's\t\\ ä", l: ["a", "b'"], b: 77 }]);
}

async function streams(client) {
  let total = 0;
  const result = await client.query({ query: "SELECT number FROM numbers(500000)", format: "JSONCompactEachRow" });
  for await (const part of result.stream()) total += part.length;
  assert.equal(total, 500000);
  // The client forgets what it has not looked at when the connection breaks, so it may know only of the break.
  await assert.rejects(async () => {
    const late = await client.query({ query: "SELECT number, throwIf(number = 3000000) FROM numbers(4000000)", format: "JSONEachRow" });
    for await (const part of late.stream()) total += part.length;
  }, /throwIf|aborted/);
}

async function longStatement(client) {
  const clickhouse_settings = { send_progress_in_http_headers: 1, http_headers_progress_interval_ms: "50", wait_end_of_query: 1 };
  const query = "INSERT INTO client_rows (id) SELECT toString(sleepEachRow(0.05)) || toString(number) FROM numbers(20) SETTINGS max_block_size = 1";
  const { summary, response_headers: headers } = await client.command({ query, clickhouse_settings });
  assert.ok("x-clickhouse-progress" in headers, JSON.stringify(headers));
  assert.equal(summary.written_rows, "20");
  await refused(395, () => client.command({ query: "SELECT sleepEachRow(0.05), throwIf(number = 15) FROM numbers(20) SETTINGS max_block_size = 1 FORMAT Null", clickhouse_settings }));
}

async function session() {
  const client = connect({ session_id: "node session" });
  await client.command({ query: "CREATE TEMPORARY TABLE mine (a UInt8)" });
  await client.insert({ table: "mine", values: [[1], [2]], format: "JSONCompactEachRow" });
  const result = await client.query({ query: "SELECT sum(a) AS s FROM mine", format: "JSONEachRow" });
  assert.deepEqual(await result.json(), [{ s: 3 }]);
  await client.close();
}

async function cancel(client) {
  const running = async () => {
    const result = await client.query({ query: "SELECT count() AS n FROM system.processes WHERE query_id = 'node-cancel'", format: "JSONEachRow" });
    return (await result.json())[0].n;
  };
  const abort = new AbortController();
  const gone = assert.rejects(client.query({
    query: "SELECT count(sipHash64(number)) FROM numbers(100000000000)", query_id: "node-cancel", abort_signal: abort.signal,
  }));
  while ((await running()) !== 1) await new Promise((resolve) => setTimeout(resolve, 20));
  abort.abort();
  await gone;
  while ((await running()) !== 0) await new Promise((resolve) => setTimeout(resolve, 20));
}

for (const compression of [{ request: false, response: false }, { request: true, response: true }]) {
  const client = connect({ compression });
  assert.ok((await client.ping()).success);
  assert.ok((await client.ping({ select: true })).success);
  await roundTrip(client);
  await parameters(client);
  await streams(client);
  await refused(60, () => client.query({ query: "SELECT * FROM no_such_table" }));
  await refused(62, () => client.command({ query: "SELECT (" }));
  await refused(60, () => client.insert({ table: "no_such_table", values: [{ a: 1 }], format: "JSONEachRow" }));
  await longStatement(client);
  await cancel(client);
  await client.close();
}
await session();
console.log("OK");
