// Signs up, opens an account, pays an order from it, and is told why a second account can't be opened. Ends with a status other
// than 0 where the server doesn't keep to its document.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import createClient from "openapi-fetch";
import type { paths } from "./polis.js";

const [url, mailboxUrl] = process.argv.slice(2);
assert.ok(url !== undefined && mailboxUrl !== undefined, "usage: client.js URL MAILBOX_URL");
const guest = createClient<paths>({ baseUrl: url });

const email = `${randomUUID()}@example.com`;
const { data: challenge } = await guest.POST("/auth/sign-up", { body: { email, password: "seven purple otters dance" } });
assert.ok(challenge !== undefined);
const { data: tokens } = await guest.POST("/auth/sign-up/confirm", {
  body: { challengeId: challenge.challengeId, code: await codeSentTo(email, mailboxUrl) },
});
assert.ok(tokens !== undefined);
const client = createClient<paths>({ baseUrl: url, headers: { Authorization: `Bearer ${tokens.accessToken}` } });

const opened = await client.POST("/accounts", { body: { currency: "RUB" } });
assert.equal(opened.response.status, 201);
const account = opened.data;
assert.ok(account !== undefined);

const topUp = await client.POST("/accounts/{account_id}/top-ups", {
  params: { path: { account_id: account.id }, header: { "Idempotency-Key": randomUUID() } },
  body: { amount: "5000" },
});
assert.equal(topUp.data?.type, "CREDIT");

// Numbers go in as well; amounts come out as strings, which hold all 64 bits.
const taken = await client.POST("/orders", { body: { amount: 1000, description: "Two tickets to the opera" } });
assert.ok(taken.data !== undefined);
const amount: string = taken.data.amount;
assert.equal(amount, "1000");
const order = await settled(taken.data.id);
assert.equal(order.status, "FINISHED");
const { data: after } = await client.GET("/accounts/{account_id}", { params: { path: { account_id: account.id } } });
assert.equal(after?.balance, "4000");
const { data: page } = await client.GET("/orders", { params: { query: { status: "FINISHED", page_size: 10 } } });
assert.deepEqual(
  page?.orders.map(({ id }) => id),
  [order.id],
);

const second = await client.POST("/accounts", { body: { currency: "RUB" } });
assert.equal(second.response.status, 409);
assert.ok(second.error !== undefined);
assert.equal(second.error.code === "account_exists" ? second.error.status : undefined, 409);
assert.match(second.error.detail, /\S/);
// @ts-expect-error A code that the contract doesn't declare is none of the problem's.
assert.notEqual(second.error.code === "no_such_code", true);

// @ts-expect-error An order has an amount.
const refused = await client.POST("/orders", { body: { description: "For nothing" } });
assert.equal(refused.response.status, 400);
assert.deepEqual(
  refused.error?.errors.map(({ field }) => field),
  ["amount"],
);
process.stdout.write(`order ${order.id} is ${order.status}\n`);

async function codeSentTo(recipient: string, mailbox: string): Promise<string> {
  for (const endsAtMs = performance.now() + 10_000; performance.now() < endsAtMs; await sleep(10)) {
    const answer = await fetch(`${mailbox}/api/messages?to=${encodeURIComponent(recipient)}`);
    const { messages } = (await answer.json()) as { messages: { text: string }[] };
    const code = /\b\d{6}\b/.exec(messages[0]?.text ?? "")?.[0];
    if (code !== undefined) return code;
  }
  throw new Error("no code came within 10 s");
}

async function settled(orderId: string) {
  for (const endsAtMs = performance.now() + 10_000; performance.now() < endsAtMs; await sleep(10)) {
    const { data } = await client.GET("/orders/{order_id}", { params: { path: { order_id: orderId } } });
    assert.ok(data !== undefined);
    if (data.status !== "NEW") return data;
  }
  throw new Error("the order didn't end within 10 s");
}
