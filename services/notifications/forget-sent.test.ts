import { expect, test, vi } from "vitest";
import { ForgetSentSchema } from "#contracts/polis/notifications/v1/tasks_pb.ts";
import { testServicesWith } from "#platform/process/services.testing.ts";
import { notificationsService } from "./service.ts";

const services = await testServicesWith({ environment: { MAILBOX_PORT: "0" } }, notificationsService);
await services.begin();
const database = services.database("notifications");

/** Notifications of this age, so many, and their ids. */
async function older(age: string, status: string, count = 1): Promise<string[]> {
  const { rows } = await database.query<{ id: string }>({
    text: `INSERT INTO notifications (id, content, template, locale, email, params, status, created_at)
           SELECT gen_random_uuid(), gen_random_uuid(), 'sign-in-code', 'en', 'a@example.com', '{"code":"123456","minutes":"15"}', $2, now() - $1::interval
           FROM generate_series(1, $3) RETURNING id`,
    values: [age, status, count],
  });
  return rows.map(({ id }) => id);
}
async function forget(): Promise<string | undefined> {
  const id = await services.enqueue("notifications", ForgetSentSchema, {});
  const text = "SELECT state, result FROM tasks WHERE id = $1";
  return vi.waitFor(async () => {
    const [row] = (await database.query<{ state: string; result: string }>({ text, values: [id] })).rows;
    expect(row?.state).toBe("DONE");
    return row?.result;
  }, 10_000);
}
const left = async () => (await database.query<{ id: string }>({ text: "SELECT id FROM notifications" })).rows.map(({ id }) => id).sort();

test("what was sent more than thirty days ago is forgotten, however much it is, and nothing else", async () => {
  const young = [...(await older("29 days 23 hours", "SENT")), ...(await older("29 days", "FAILED"))];
  await older("30 days 1 hour", "SENT", 2_500);
  await older("31 days", "EXPIRED");
  expect(await forget()).toBe("2501 deleted");
  expect(await left()).toEqual(young.sort());
  expect(await forget()).toBe("0 deleted");
});

test("what nothing came of within a week has failed, and its codes are erased", async () => {
  const [[lost = ""], [waiting = ""], [sent = ""]] = await Promise.all([
    older("7 days 1 hour", "QUEUED"),
    older("6 days 23 hours", "QUEUED"),
    older("8 days", "SENT"),
  ]);
  expect(await forget()).toBe("0 deleted, 1 given up");
  const { rows } = await database.query<{ id: string; status: string; reason: string | null; codes: boolean; ended: boolean }>({
    text: `SELECT id, status, reason, params LIKE '%123456%' AS codes, ended_at IS NOT NULL AS ended FROM notifications WHERE id = ANY($1::uuid[])`,
    values: [[lost, waiting, sent]],
  });
  expect(Object.fromEntries(rows.map(({ id, ...row }) => [id, row]))).toEqual({
    [lost]: { status: "FAILED", reason: "nothing came of it within a week", codes: false, ended: true },
    [waiting]: { status: "QUEUED", reason: null, codes: true, ended: false },
    [sent]: { status: "SENT", reason: null, codes: true, ended: false },
  });
});
