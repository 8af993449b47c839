import { randomUUID } from "node:crypto";
import { expect, test, vi } from "vitest";
import { testServices } from "#platform/process/services.testing.ts";
import { ordersService } from "../services/orders/service.ts";

test("a service forgets what is past its time, by its schedules: keys, handled events, ended tasks; and nothing younger", async () => {
  const services = await testServices(ordersService);
  const database = services.database("orders");
  await services.begin();
  const [old, young] = ["00000000-0000-7000-8000-000000000001", randomUUID()];
  const insert = (text: string) => database.query({ text, values: [old, young] });
  await insert(`INSERT INTO idempotency (key, content, created_at) SELECT id::uuid, id::uuid, now() - age
                FROM (VALUES ($1, interval '8 days'), ($2, interval '6 days')) k (id, age)`);
  await insert(`INSERT INTO inbox (group_id, event_id, handled_at) SELECT id, event::uuid, now() - age
                FROM inbox_groups, (VALUES ($1, interval '9 days'), ($2, interval '1 day')) e (event, age)`);
  await insert(`INSERT INTO tasks (id, type, queue, priority, state, offered, run_at, payload, traceparent, actor, causation_id, ended_at, forget_at)
                SELECT id::uuid, 'x', 'x', 0, 'DONE', false, now(), '', '', '', '', now(), now() + age
                FROM (VALUES ($1, interval '-1 minute'), ($2, interval '1 day')) t (id, age)`);
  await database.query({ text: "UPDATE task_schedules SET next_at = now()" });
  const left = async (table: string, id: string) =>
    (await database.query({ text: `SELECT ${id}::text AS id FROM ${table} WHERE ${id} = ANY($1::uuid[])`, values: [[old, young]] })).rows;
  await vi.waitFor(
    async () => {
      for (const [table, id] of [
        ["idempotency", "key"],
        ["inbox", "event_id"],
        ["tasks", "id"],
      ] as const)
        expect(await left(table, id)).toEqual([{ id: young }]);
    },
    { timeout: 10_000, interval: 20 },
  );
});
