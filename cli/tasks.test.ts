import { expect, it } from "vitest";
import { FollowUpOrderSchema } from "#contracts/polis/orders/v1/tasks_pb.ts";
import { uuidv7 } from "#platform/ids.ts";
import { testDatabaseConnection, testLog } from "#platform/postgres/database.testing.ts";
import { openDatabase } from "#platform/postgres/open-database.ts";
import { migrationsOf } from "#platform/process/host-service.ts";
import { enqueueTasks } from "#platform/tasks/task-statements.ts";
import { newTask, tasksOf } from "#platform/tasks/task-types.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";
import { ordersService } from "../services/orders/service.ts";
import { polisOnOrders } from "./polis.testing.ts";

it("polis tasks lists, shows, retries and cancels the tasks of a service, and refuses what makes no sense", async () => {
  const connection = await testDatabaseConnection(migrationsOf(ordersService).map(({ folder }) => folder));
  const polis = polisOnOrders(connection, "tasks");
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
    expect.objectContaining({ service: "orders", id: one.id, state: "FAILED" }),
  ]);
  expect(JSON.parse(polis("show", "orders", "--type", type, "--key", second).lines.join("\n"))).toMatchObject({
    id: two.id,
    state: "WAITING",
    task: { orderId: second },
  });
  expect(polis("show", "orders", uuidv7())).toMatchObject({ status: 1, stderr: expect.stringContaining("has no task") });

  expect(polis("retry", "orders", "--queue", "orders.follow-up").lines).toEqual(["1 to be tried again"]);
  expect(polis("retry", "orders", one.id)).toMatchObject({ status: 1, stderr: expect.stringContaining("to retry") });
  expect(polis("cancel", "orders", two.id).lines).toEqual(["1 cancelled"]);
  expect(polis("cancel", "orders", "--type", type).lines).toEqual(["1 cancelled"]);
  expect(polis("list", "orders", "--state", "canceled").lines).toHaveLength(2);
  expect(polis("schedules", "orders").lines).toEqual([]);

  for (const [args, says] of [
    [["cancel", "orders"], "needs a TASK_ID, --queue or --type"],
    [["list", "--state", "lost"], "--state must be one of"],
    [["show", "orders", "x"], "'x' is no task's id"],
    [["show", "orders", "--key", "k"], "--key needs --type"],
    [["retry"], "needs a SERVICE"],
    [["go"], "say list, show, retry, cancel or schedules"],
  ] as const)
    expect(polis(...args)).toMatchObject({ status: 2, stderr: expect.stringContaining(says) });
  await database.close();
}, 60_000);
