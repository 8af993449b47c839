import { expect, test } from "vitest";
import { orderCreated, serviceMigrations } from "#platform/events/event-log.testing.ts";
import { uuidv7 } from "#platform/ids.ts";
import { parkRecords, readAskedFor } from "#platform/outbox/parked.ts";
import { testDatabaseConnection, testLog } from "#platform/postgres/database.testing.ts";
import { openDatabase } from "#platform/postgres/open-database.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";
import { polisOn } from "./polis.testing.ts";

test("polis outbox lists what a service's outbox holds back and why, and asks for a key of it", async () => {
  const connection = await testDatabaseConnection(serviceMigrations);
  const polis = polisOn({ orders: connection }, "outbox");
  expect(polis("list", "orders")).toEqual({ status: 0, stderr: "nothing is parked\n", lines: [] });

  const [a, b] = [uuidv7(), uuidv7()].sort() as [string, string];
  const [refused, behind, other] = [orderCreated(a, "1"), orderCreated(a, "2"), orderCreated(b, "3")];
  const database = await openDatabase({ connection, name: "test", log: testLog, metrics: new Metrics() });
  await database.transaction((tx) =>
    tx.commit(
      parkRecords([
        { record: refused, cause: "there is no topic" },
        { record: other, cause: "it is too large" },
        { record: behind, cause: undefined },
      ]),
    ),
  );
  const listed = ({ key, eventId, type }: typeof refused) => `  orders  orders.events  ${key}  ${eventId}  ${type}`;
  expect(polis("list", "orders").lines).toEqual([
    expect.stringMatching(new RegExp(`^\\S+Z  refused ${listed(refused)}  there is no topic$`)),
    expect.stringMatching(new RegExp(`^\\S+Z  waiting ${listed(behind)}$`)),
    expect.stringMatching(new RegExp(`^\\S+Z  refused ${listed(other)}  it is too large$`)),
  ]);
  expect(polis("list", "orders", "--limit", "1", "--key", a, "--json").lines.map((line) => JSON.parse(line))).toEqual([
    expect.objectContaining({ service: "orders", eventId: refused.eventId, state: "refused", cause: "there is no topic" }),
  ]);

  expect(polis("retry", "orders", "--key", a).lines).toEqual(["2 to be tried again"]);
  expect((await readAskedFor(database)).map(({ record }) => record.eventId)).toEqual([refused.eventId, behind.eventId]);
  expect(polis("list", "orders", "--key", a).lines).toEqual([expect.stringContaining("  asked "), expect.stringContaining("  asked ")]);
  expect(polis("retry", "orders").lines).toEqual(["3 to be tried again"]);
  await database.close();
});
