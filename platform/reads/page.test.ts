import { type Timestamp, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { testDatabase } from "#platform/postgres/database.testing.ts";
import { page } from "#platform/reads/page.ts";
import { bigint, integer, text, timestamp, uuid } from "#platform/writes/columns.ts";
import { table } from "#platform/writes/table.ts";
import { insertStatement } from "#platform/writes/table-statements.ts";

type Entry = { readonly id: string; readonly at: Timestamp; readonly amount: bigint; readonly count: number; readonly name: string };

const entries = table<Entry>("entries", { id: uuid, at: timestamp, amount: bigint, count: integer, name: text });
const database = await testDatabase();
await database.query({
  text: "CREATE TABLE entries (id uuid PRIMARY KEY, at timestamptz NOT NULL, amount bigint NOT NULL, count integer NOT NULL, name text NOT NULL)",
});
const idOf = (n: number) => `00000000-0000-7000-8000-${String(n).padStart(12, "0")}`;
await database.query(
  insertStatement(
    entries,
    Array.from({ length: 7 }, (_, n) => ({
      id: idOf(n),
      at: n % 2 === 0 ? { ...timestampFromMs(1_800_000_000_000), nanos: 123_456_000 } : timestampFromMs(-5_000_000_000_123),
      amount: n % 3 === 0 ? -(2n ** 63n) : 2n ** 63n - 1n,
      count: n % 2 === 0 ? -(2 ** 31) : 2 ** 31 - 1,
      name: n % 2 === 0 ? `"Я, \\ \u{1f600}'` : "",
    })),
    false,
  ),
);

type By = readonly (keyof Entry & string)[];
const pageOf = (by: By, pageToken: string) => page(database, entries, { where: {}, by }, { pageSize: 2, pageToken });
const tokenOf = (...values: unknown[]) => Buffer.from(JSON.stringify(values)).toString("base64url");

test.each<By>([["id"], ["at", "id"], ["amount", "id"], ["count", "id"], ["name", "id"]])(
  "pages ordered by %s and so on hold every row once",
  async (...by) => {
    const seen: string[] = [];
    let token = "";
    do {
      const { rows, nextPageToken } = await pageOf(by, token);
      seen.push(...rows.map(({ id }) => id));
      token = nextPageToken;
    } while (token !== "");
    expect([...seen].sort()).toEqual(Array.from({ length: 7 }, (_, n) => idOf(n)));
  },
);

test.each<[By, unknown[]]>([
  [["id"], ["abc"]],
  [["id"], [""]],
  [["id"], ["0000000000007000800000000000000a"]],
  [["id"], []],
  [["id"], [idOf(1), idOf(2)]],
  [["id"], [1]],
  [["id"], [null]],
  [
    ["at", "id"],
    ["infinity", idOf(1)],
  ],
  [
    ["at", "id"],
    ["now", idOf(1)],
  ],
  [
    ["at", "id"],
    ["2026-02-30T00:00:00.000Z", idOf(1)],
  ],
  [
    ["at", "id"],
    ["2026-01-01T24:00:00.000Z", idOf(1)],
  ],
  [
    ["at", "id"],
    ["0000-01-01T00:00:00.000Z", idOf(1)],
  ],
  [
    ["at", "id"],
    ["2026-01-01", idOf(1)],
  ],
  [
    ["amount", "id"],
    ["9223372036854775808", idOf(1)],
  ],
  [
    ["amount", "id"],
    ["1.5", idOf(1)],
  ],
  [
    ["amount", "id"],
    ["0x10", idOf(1)],
  ],
  [
    ["amount", "id"],
    ["", idOf(1)],
  ],
  [
    ["count", "id"],
    ["2147483648", idOf(1)],
  ],
  [
    ["name", "id"],
    ["a\0b", idOf(1)],
  ],
  [
    ["name", "id"],
    ["\ud800", idOf(1)],
  ],
])("a token for %j that holds %j is refused by name before it reaches the database", async (by, values) => {
  await expect(pageOf(by, tokenOf(...values))).rejects.toMatchObject({
    status: "INVALID_ARGUMENT",
    code: "validation_failed",
    violations: [{ field: "pageToken", rule: "page_token" }],
  });
});

test.each(["1", "!", "bnVsbA", "e30", "W10"])("so is %j, which is no list of texts", async (token) => {
  await expect(pageOf(["id"], token)).rejects.toMatchObject({ code: "validation_failed", violations: [{ field: "pageToken" }] });
});
