import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import { ForgetOverSchema } from "#contracts/polis/auth/v1/tasks_pb.ts";
import { testServices } from "#platform/process/services.testing.ts";
import { authService } from "./service.ts";

const services = await testServices(authService);
const database = services.database("auth");
await services.begin();

/** Rows of a table by their names here, each with an id of its own, and what makes it one. */
async function put(text: string, rows: Readonly<Record<string, readonly string[]>>): Promise<Map<string, string>> {
  const ids = new Map<string, string>();
  for (const [name, values] of Object.entries(rows)) {
    const id = randomUUID();
    ids.set(id, name);
    await database.query({ text, values: [id, ...values] });
  }
  return ids;
}

async function forget(): Promise<void> {
  await services.enqueue("auth", ForgetOverSchema, {});
  await services.quiet();
}

async function leftOf(table: string, ids: ReadonlyMap<string, string>): Promise<(string | undefined)[]> {
  const { rows } = await database.query<{ id: string }>({ text: `SELECT id FROM ${table}` });
  return rows.map(({ id }) => ids.get(id)).toSorted();
}

test("challenges stay for a day after they are over", async () => {
  const ids = await put(
    `INSERT INTO challenges (id, purpose, locale, created_at, expires_at, used_at)
     VALUES ($1, 'SIGN_IN', 'en', now() - interval '3 days', now() + $2::interval, now() + $3::interval)`,
    { open: ["5 min", "5 min"], used: ["5 min", "-1 min"], late: ["-23 hours", "-1 day"], over: ["-25 hours", "-2 days"] },
  );
  await forget();
  expect(await leftOf("challenges", ids)).toEqual(["late", "open", "used"]);
});

test("sessions stay for thirty days after they have ended or expired, so that a stolen token of theirs is known", async () => {
  const ids = await put(
    `INSERT INTO sessions (id, user_id, epoch, generation, device, address, second_factor, created_at, last_used_at, expires_at, ended_at)
     VALUES ($1, $1, 1, 1, '', '', false, now() - interval '200 days', now(), now() + $2::interval, now() + nullif($3, '')::interval)`,
    { good: ["1 day", ""], expired: ["-29 days", ""], ended: ["1 day", "-29 days"], gone: ["-31 days", ""], left: ["1 day", "-31 days"] },
  );
  await forget();
  expect(await leftOf("sessions", ids)).toEqual(["ended", "expired", "good"]);
});

test("revocations stay for longer than any token that they are of", async () => {
  const ids = await put("INSERT INTO revocations (id, session_id, version_min, expires_at) VALUES ($1, $1, 0, now() + $2::interval)", {
    counts: ["5 min"],
    late: ["-59 min"],
    over: ["-61 min"],
  });
  await forget();
  expect(await leftOf("revocations", ids)).toEqual(["counts", "late"]);
});

test("a key to sign with goes a day after its successor has signed, and not before", async () => {
  await database.query({ text: "DELETE FROM signing_keys" });
  const text = `INSERT INTO signing_keys (id, private_key, public_jwk, created_at, signs_from) VALUES ($1, '', '{}', now(), now() + $2::interval)`;
  const ids = await put(text, { oldest: ["-61 days"], older: ["-31 days"], newest: ["-23 hours"], next: ["1 min"] });
  await forget();
  expect(await leftOf("signing_keys", ids)).toEqual(["newest", "next", "older"]);
  await database.query({ text: "UPDATE signing_keys SET signs_from = signs_from - interval '2 hours'" });
  await forget();
  expect(await leftOf("signing_keys", ids)).toEqual(["newest", "next"]);
});

test("more than go at once go as well, but for what somebody holds, which doesn't hold it up", async () => {
  await database.query({
    text: `INSERT INTO revocations (id, version_min, expires_at) SELECT gen_random_uuid(), 0, now() - interval '2 hours' FROM generate_series(1, 2500)`,
  });
  await database.transaction(async (tx) => {
    const { rows } = await tx.query({ text: "SELECT id FROM revocations WHERE expires_at < now() - interval '1 hour' LIMIT 1 FOR UPDATE" });
    await forget();
    expect((await database.query({ text: "SELECT id FROM revocations WHERE expires_at < now() - interval '1 hour'" })).rows).toEqual(rows);
  });
});
