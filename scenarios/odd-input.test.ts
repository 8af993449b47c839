import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import { settled } from "./support/settled.ts";
import { testDatabases } from "./support/test-databases.ts";
import { startTestPolis } from "./support/test-polis.ts";

const databases = await testDatabases();
const polis = await startTestPolis(databases);

const rest = polis.rest(randomUUID());
const { body: account } = await rest.openAccount();

const stored = async () => ({
  orders: await databases.query("orders", "SELECT * FROM orders"),
  topUps: await databases.query("payments", "SELECT * FROM top_ups"),
  postings: await databases.query("accounts", "SELECT * FROM postings"),
  keys: [
    ...(await databases.query("orders", "SELECT * FROM idempotency")),
    ...(await databases.query("payments", "SELECT * FROM idempotency")),
  ],
});

/** As they stand in the JSON that is sent. */
const wrongAmounts = [
  "0",
  "-1",
  '"0"',
  '"-1"',
  '"-9223372036854775808"',
  '"9223372036854775808"',
  "9223372036854775807",
  "9223372036854775808",
  "9007199254740993",
  "1.5",
  '"1.5"',
  '"1e3"',
  '"0x10"',
  '" 5"',
  '"5 "',
  '"٥"',
  '""',
  "null",
  "true",
  "[5]",
  '{"units":5}',
];

test.each(wrongAmounts)("an amount of %s is refused by name, for an order as for a top-up, and nothing is kept", async (amount) => {
  const before = await stored();
  for (const path of ["/orders", `/accounts/${account.id}/top-ups`]) {
    const { status, body } = await rest.call("POST", path, { body: `{"amount":${amount}}`, key: randomUUID() });
    expect({ status, fields: body.errors?.map(({ field }) => field) }).toEqual({ status: 400, fields: ["amount"] });
  }
  expect(await stored()).toEqual(before);
});

test("the largest amount there is can be ordered, as a text", async () => {
  const { status, body } = await rest.createOrder({ amount: "9223372036854775807" });
  expect({ status, amount: body.amount }).toEqual({ status: 201, amount: "9223372036854775807" });
  expect(await settled(rest, body.id)).toMatchObject({ status: "CANCELED", reason: "insufficient_funds" });
});

test.each([String.raw`a\u0000b`, String.raw`\ud800`, String.raw`a\udc00b`, String.raw`\udc00\ud800`])(
  "a description with %s in it is refused and not mended",
  async (description) => {
    const before = await stored();
    const { status, body } = await rest.call("POST", "/orders", { body: `{"amount":5,"description":"${description}"}`, key: randomUUID() });
    expect(status).toBe(400);
    expect(body.errors?.map(({ field }) => field) ?? [body.code]).toEqual(["description"]);
    expect(await stored()).toEqual(before);
  },
);

test("any other text comes back as it was", async () => {
  const description = `"\\\u0001\u007f\u2028 \ud83d\ude00 e\u0301 \u202e <script>' OR 1=1 --`;
  const { body } = await rest.createOrder({ amount: 1, description });
  expect(body.description).toBe(description);
  expect((await settled(rest, body.id)).description).toBe(description);
});

test("a description of 2,000 characters is taken, whatever they weigh; of 2,001 it is refused", async () => {
  const taken = await rest.createOrder({ amount: 1, description: "\u{1f600}".repeat(2_000) });
  expect(taken.status).toBe(201);
  await settled(rest, taken.body.id);
  const { status, body } = await rest.createOrder({ amount: 1, description: "\u{1f600}".repeat(2_001) });
  expect({ status, field: body.errors?.[0]?.field }).toEqual({ status: 400, field: "description" });
});

test.each([
  ["an unknown field", "POST", "/orders", '{"amount":5,"amuont":5}'],
  ["another's id in the body", "POST", "/orders", `{"amount":5,"userId":"${randomUUID()}"}`],
  ["a field of the answer", "POST", "/orders", '{"amount":5,"status":"FINISHED"}'],
  ["an unknown query parameter", "GET", "/orders?page_sise=3", undefined],
  ["a page of nothing", "GET", "/orders?page_size=-1", undefined],
  ["a page too large", "GET", "/orders?page_size=501", undefined],
  ["a page token that nobody gave", "GET", "/orders?page_token=1", undefined],
  ["a forged page token", "GET", `/orders?page_token=${Buffer.from('["abc"]').toString("base64url")}`, undefined],
  [
    "a forged page token of several values",
    "GET",
    `/accounts/${account.id}/transactions?page_token=${Buffer.from(`["infinity","${account.id}"]`).toString("base64url")}`,
    undefined,
  ],
  ["a status that there isn't", "GET", "/orders?status=PAID", undefined],
  ["an id that is none", "GET", "/orders/1", undefined],
  ["an id with a NUL", "GET", `/orders/${randomUUID()}%00`, undefined],
  ["half an escape", "GET", "/orders/%E0%A4", undefined],
  ["a currency that is none", "POST", "/orders", '{"amount":5,"currency":"rub"}'],
  ["an array for a body", "POST", "/orders", "[]"],
  ["a text for a body", "POST", "/orders", '"order"'],
  ["half a body", "POST", "/orders", '{"amount":5'],
  ["two bodies", "POST", "/orders", '{"amount":5}{"amount":5}'],
] as const)("%s is refused as the client's mistake", async (_, method, path, body) => {
  const before = await stored();
  const answer = await rest.call(method, path, body === undefined ? {} : { body, key: randomUUID() });
  expect(answer.status).toBe(400);
  expect(answer.headers["content-type"]).toMatch(/^application\/problem\+json/);
  expect(answer.body.code).toMatch(/^[a-z_]+$/);
  expect(await stored()).toEqual(before);
});

test("an id in upper case is the same id, and under one key the same command", async () => {
  const key = randomUUID();
  const first = await rest.topUp(account.id, "5", key);
  expect(first.status).toBe(201);
  expect(await rest.topUp(account.id.toUpperCase(), "5", key)).toMatchObject({ status: 201, body: first.body });
  expect((await polis.rest(account.userId.toUpperCase()).account(account.id.toUpperCase())).body).toMatchObject({
    id: account.id,
    balance: "5",
  });
});
