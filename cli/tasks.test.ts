import type { ClientConfig } from "pg";
import { expect, test } from "vitest";
import { FollowUpOrderSchema } from "#contracts/polis/orders/v1/tasks_pb.ts";
import { uuidv7 } from "#platform/ids.ts";
import { testDatabaseConnection, testLog } from "#platform/postgres/database.testing.ts";
import { openDatabase } from "#platform/postgres/open-database.ts";
import { migrationsOf } from "#platform/process/host-service.ts";
import { enqueueTasks } from "#platform/tasks/task-statements.ts";
import { newTask, tasksOf } from "#platform/tasks/task-types.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";
import { ordersService } from "../services/orders/service.ts";
import { orderPayments } from "../systems/order-payments.ts";
import { polisOn } from "./polis.testing.ts";

test("polis tasks lists, shows, retries and cancels the tasks of a service, and refuses what makes no sense or isn't there", async () => {
  const connection = await testDatabaseConnection(migrationsOf(ordersService).map(({ folder }) => folder));
  const polis = polisOn({ orders: connection }, "tasks");
  expect(polis("list", "orders")).toEqual({ status: 0, stderr: "there are none\n", lines: [] });

  const database = await openDatabase({ connection, name: "test", log: testLog, metrics: new Metrics() });
  const options = tasksOf([FollowUpOrderSchema], "orders").get(FollowUpOrderSchema.typeName);
  const [first, second] = [uuidv7(), uuidv7()];
  const made = [first, second].map((orderId) =>
    newTask(FollowUpOrderSchema, { orderId }, options as NonNullable<typeof options>, {
      key: orderId,
      nowMs: Date.now(),
      traceparent: "",
      actor: "service orders",
      causationId: "",
    }),
  );
  const [one, two] = made as [(typeof made)[0], (typeof made)[0]];
  await database.transaction((tx) => tx.commit(enqueueTasks(made, false)));
  await database.query({
    text: "UPDATE tasks SET state = 'FAILED', ended_at = now(), attempts = 5, cause = 'Error: there is no order' WHERE id = $1",
    values: [one.id],
  });

  const type = FollowUpOrderSchema.typeName;
  expect(polis("list", "orders").lines.toSorted()).toEqual(
    [
      expect.stringMatching(
        `^\\S+Z  failed    orders  orders.follow-up  ${one.id}  ${type}  key ${first}  tries 5  Error: there is no order$`,
      ),
      expect.stringMatching(`^\\S+Z  waiting   orders  orders.follow-up  ${two.id}  ${type}  key ${second}  tries 0$`),
    ].toSorted(),
  );
  expect(polis("list", "orders", "--state", "failed", "--json", "--limit", "1").lines.map((line) => JSON.parse(line))).toEqual([
    expect.objectContaining({ service: "orders", id: one.id, state: "failed" }),
  ]);
  expect(JSON.parse(polis("show", "orders", "--type", type, "--key", second).lines.join("\n"))).toMatchObject({
    id: two.id,
    state: "waiting",
    task: { orderId: second },
  });
  expect(polis("show", "orders", uuidv7())).toMatchObject({ status: 1, stderr: expect.stringContaining("has no task") });

  expect(polis("retry", "orders", "--queue", "orders.follow-up").lines).toEqual(["1 to be tried again"]);
  expect(polis("retry", "orders", one.id)).toMatchObject({ status: 1, stderr: expect.stringContaining("to retry") });
  const byKey = ["orders", "--type", type, "--key", second] as const;
  expect(polis("retry", ...byKey)).toMatchObject({ status: 1, stderr: expect.stringContaining(`has no task ${second} to retry`) });
  expect(polis("cancel", ...byKey).lines).toEqual(["1 cancelled"]);
  expect(polis("retry", ...byKey).lines).toEqual(["1 to be tried again"]);
  expect(polis("cancel", "orders", two.id.toUpperCase()).lines).toEqual(["1 cancelled"]);
  expect(polis("cancel", "orders", "--type", type).lines).toEqual(["1 cancelled"]);
  expect(polis("list", "orders", "--state", "canceled").lines).toHaveLength(2);
  expect(polis("schedules", "orders").lines).toEqual([]);

  await database.query({
    text: `INSERT INTO tasks (id, type, queue, priority, state, offered, run_at, payload, traceparent, actor, causation_id)
           VALUES ($1, 'polis.orders.v0.Old', 'orders.old', 0, 'WAITING', false, now() + interval '1 h', '', '', '', '')`,
    values: [uuidv7()],
  });
  expect(polis("list", "orders", "--state", "delayed").lines).toEqual([expect.stringMatching(/^\S+Z {2}delayed {3}orders {2}orders.old /)]);
  expect(polis("list", "orders", "--state", "waiting")).toMatchObject({ status: 0, lines: [] });
  for (const [args, says] of [
    [["retry", "orders", "--queue", "nosuch"], "orders has no queue nosuch; it has housekeeping.orders, orders.follow-up, orders.old"],
    [["cancel", "orders", "--type", "Nope", "--key", second], /orders has no task Nope; it has .*polis.orders.v0.Old/],
    [["cancel", "orders", "--type", "Nope"], /orders has no task Nope; it has .*polis.orders.v0.Old, polis.orders.v1.FindStaleOrders/],
    [["list", "orders", "--queue", "nosuch"], "orders has no queue nosuch"],
  ] as const)
    expect(polis(...args)).toMatchObject({ status: 1, lines: [], stderr: expect.stringMatching(says) });
  expect(polis("cancel", "orders", "--queue", "orders.old").lines).toEqual(["1 cancelled"]);
  expect(polis("cancel", "orders", "--type", "polis.orders.v0.Old").lines).toEqual(["0 cancelled"]);

  await database.query({
    text: `INSERT INTO task_schedules (name, cron, time_zone, next_at)
           VALUES ('orders.find-stale-orders', '* * * * *', 'UTC', now()), ('orders.old', '5 * * * *', 'UTC', now())`,
  });
  expect(polis("schedules", "orders").lines).toEqual([
    expect.stringMatching(/^orders.find-stale-orders {2}\* \* \* \* \* {2}UTC {2}next \S+Z$/),
    "orders.old  5 * * * *  UTC  in no manifest",
  ]);
  expect(polis("schedules", "orders", "--json").lines.map((line) => JSON.parse(line))).toMatchObject([
    { name: "orders.find-stale-orders", isInManifest: true },
    { name: "orders.old", isInManifest: false },
  ]);

  for (const [args, says] of [
    [["cancel", "orders"], "needs a TASK_ID, --queue or --type"],
    [["list", "--state", "lost"], "--state must be one of waiting, delayed, blocked, running, done, failed, canceled"],
    [["show", "orders", "x"], "'x' is no task's id"],
    [["show", "orders", "--key", "k"], "--key needs --type"],
    [["cancel", "orders", "--key", "k"], "--key needs --type"],
    [["retry", "orders", "--type", type, "--key", "k", "--queue", "q"], "--queue doesn't go with them"],
    [["retry", "orders", one.id, "--type", type], "no option goes with it"],
    [["list", "orders", "--key", "k"], "'list' takes no --key"],
    [["schedules", "--queue", "q"], "'schedules' takes no --queue"],
    [["retry", "orders", "--state", "failed"], "'retry' takes no --state"],
    [["cancel", "orders", "--type", type, "--limit", "1"], "'cancel' takes no --limit"],
    [["retry"], "needs a SERVICE"],
    [["go"], "say list, show, retry, cancel or schedules"],
  ] as const)
    expect(polis(...args)).toMatchObject({ status: 2, stderr: expect.stringContaining(says) });
  await database.close();
}, 60_000);

test("polis tasks list of all services shows what any of them has, and refuses a queue that none has, though one has no database yet", async () => {
  const databases: { [service: string]: ClientConfig } = {};
  for (const service of orderPayments.services)
    databases[service.name] = await testDatabaseConnection(migrationsOf(service).map(({ folder }) => folder));
  const polis = polisOn(databases, "tasks");
  expect(polis("list", "--queue", "orders.follow-up")).toEqual({ status: 0, stderr: "there are none\n", lines: [] });
  expect(polis("list", "--queue", "nosuch")).toMatchObject({
    status: 1,
    stderr: expect.stringMatching(/accounts has no queue nosuch; it has housekeeping.accounts; .*orders has no queue nosuch/),
  });

  const absent = (connection: ClientConfig | undefined) => ({ ...connection, database: "not_there_yet" });
  const partly = polisOn({ ...databases, orders: absent(databases.orders) }, "tasks");
  expect(partly("list", "--queue", "orders.follow-up")).toEqual({ status: 0, stderr: "there are none\n", lines: [] });
  for (const service of [[], ["orders"]])
    expect(partly("list", ...service, "--queue", "nosuch")).toMatchObject({
      status: 1,
      stderr: expect.stringContaining("orders has no queue nosuch; it has housekeeping.orders, orders.follow-up"),
    });
}, 60_000);
