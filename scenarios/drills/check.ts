import { AccountsService } from "#contracts/polis/accounts/v1/accounts_pb.ts";
import { userCaller } from "#platform/access/caller.ts";
import { callerTokens } from "#platform/access/caller-token.ts";
import { secretsOf } from "#platform/access/secrets.ts";
import { createClient } from "#platform/rpc/client.ts";
import { grpcTransport } from "#platform/rpc/grpc-transport.ts";
import { restOf } from "../support/rest-client.ts";
import { until } from "../support/until.ts";
import type { Customer, Shop } from "./shop.ts";

/** Reads a service's database, or that of the log (`events`) where PostgreSQL has it. */
export type Sql = <T extends object>(service: string, text: string) => Promise<T[]>;

/** Where all that was done can be looked at. */
export type Books = {
  readonly sql: Sql;
  /** Groups that haven't read the log to its end, a line each. */
  readonly behind: () => Promise<string[]>;
};

export type Findings = { readonly lost: string[]; readonly doubled: string[]; readonly wrong: string[] };

/** Those whose rows are compared with what was answered. */
const SERVICES = ["accounts", "payments", "orders"] as const;
const SETTLE_TIMEOUT_MS = 45_000;

type OrderRow = { id: string; user_id: string; amount: string; status: string; reason: string | null };

/** Waits until every order has ended, every outbox is empty and every group has read the log to its end; says what still isn't so. */
export async function allSettled({ sql, behind }: Books, withinMs = SETTLE_TIMEOUT_MS): Promise<readonly string[]> {
  let left: string[] = [];
  const look = async (): Promise<boolean> => {
    left = (await Promise.all([newOrders(sql), leftInOutboxes(sql), behind(), deadLetters(sql)])).flat();
    return left.length === 0;
  };
  await until("the end of every order", look, { withinMs, everyMs: 25 }).catch((error: Error) => {
    if (left.length === 0) left = [String(error.cause ?? error)];
  });
  return left;
}

const newOrders = async (sql: Sql): Promise<string[]> =>
  (await sql<{ id: string }>("orders", "SELECT id FROM orders WHERE status = 'NEW' LIMIT 20")).map(({ id }) => `order ${id} is still NEW`);

async function leftInOutboxes(sql: Sql): Promise<string[]> {
  const found = await Promise.all(
    SERVICES.map(async (service) =>
      (
        await sql<{ what: string }>(
          service,
          "SELECT 'outbox row ' || id AS what FROM outbox UNION ALL SELECT 'refused event ' || event_id || ': ' || coalesce(cause, '') FROM outbox_parked LIMIT 20",
        )
      ).map(({ what }) => `${service}: ${what}`),
    ),
  );
  return found.flat();
}

/** `behind` where the log is in PostgreSQL. */
export const behindInPostgres = async (sql: Sql): Promise<string[]> =>
  (
    await sql<{ what: string }>(
      "events",
      `SELECT g.name || ' is ' || p.next_offset - o.position || ' behind in ' || p.topic || '/' || p.partition AS what
       FROM positions o JOIN groups g ON g.id = o.group_id JOIN partitions p ON p.id = o.partition_id WHERE p.next_offset <> o.position`,
    )
  ).map(({ what }) => what);

/** An event that is retried may still be handled; one that stays is a finding. */
async function deadLetters(sql: Sql): Promise<string[]> {
  const found = await Promise.all(
    SERVICES.map(async (service) =>
      (
        await sql<{ what: string }>(
          service,
          "SELECT 'dead letter ' || event_id || ' ' || state || ' of ' || key || ': ' || coalesce(cause, '') AS what FROM dead_letters LIMIT 20",
        )
      ).map(({ what }) => `${service}: ${what}`),
    ),
  );
  return found.flat();
}

/** Compares everything that is there with what the shop's customers were told. */
export async function compare(
  shop: Shop,
  books: Books,
  polis: { readonly http: string; readonly grpc: string; readonly secret: string },
): Promise<Findings> {
  const findings: Findings = { lost: [], doubled: [], wrong: [...shop.wrongAnswers] };
  const { sql } = books;
  findings.lost.push(...(await allSettled(books)));
  await compareOrders(shop, sql, findings);
  await compareMoney(shop, sql, findings);
  await compareRest(shop, polis.http, findings);
  const transport = grpcTransport({ addresses: [polis.grpc], tokens: callerTokens({ secrets: secretsOf([polis.secret]) }) });
  try {
    const auditor = userCaller("00000000-0000-4000-8000-000000000001", { roles: ["auditor"] });
    const { balanced, faults } = await createClient(AccountsService, transport, { caller: auditor }).checkBooks({}, { timeoutMs: 30_000 });
    if (!balanced) findings.wrong.push(...faults.map((fault) => `books: ${fault}`));
  } finally {
    transport.close();
  }
  return findings;
}

/** Every order that was answered is there, ended as its customer's kind demands; no other is there; each has one charge. */
async function compareOrders(shop: Shop, sql: Sql, { lost, doubled, wrong }: Findings): Promise<void> {
  const rows = await sql<OrderRow>("orders", "SELECT id, user_id, amount::text, status, reason FROM orders");
  const charges = await sql<{ order_id: string; status: string }>("payments", "SELECT order_id, status FROM charges");
  const byId = new Map(rows.map((row) => [row.id, row]));
  const chargeOf = new Map(charges.map((charge) => [charge.order_id, charge.status]));
  const known = new Set<string>();
  for (const customer of shop.customers)
    for (const [key, { answer }] of customer.orders) {
      if (known.has(answer.id)) wrong.push(`two keys got the order ${answer.id}`);
      known.add(answer.id);
      const row = byId.get(answer.id);
      if (row === undefined) lost.push(`order ${answer.id} (key ${key}) was answered 201 and isn't there`);
      else if (row.amount !== answer.amount || row.user_id !== customer.userId)
        wrong.push(`order ${answer.id} was changed: ${JSON.stringify(row)}`);
      else if (!endsAsItMust(customer, row))
        wrong.push(`order ${row.id} of a customer who is ${customer.kind} ended ${row.status} ${row.reason}`);
    }
  for (const { id, status } of rows) {
    if (!known.has(id)) doubled.push(`order ${id} is there, and nobody was answered with it`);
    if (chargeOf.get(id) !== { FINISHED: "SUCCEEDED", CANCELED: "FAILED" }[status])
      wrong.push(`order ${id} is ${status}, its charge ${chargeOf.get(id)}`);
  }
  for (const id of chargeOf.keys()) if (!byId.has(id)) doubled.push(`a charge of order ${id}, which isn't there`);
}

function endsAsItMust({ kind }: Customer, { status, reason }: OrderRow): boolean {
  switch (kind) {
    case "rich":
      return status === "FINISHED";
    case "poor":
      return status === "FINISHED" || (status === "CANCELED" && reason === "insufficient_funds");
    case "without account":
      return status === "CANCELED" && reason === "account_not_found";
    case "dollars":
      return status === "CANCELED" && reason === "currency_mismatch";
  }
}

/** Every top-up and every finished order moved its money once; every balance is the sum of them. */
async function compareMoney(shop: Shop, sql: Sql, { lost, doubled, wrong }: Findings): Promise<void> {
  const accounts = await sql<{ id: string; user_id: string; balance: string }>(
    "accounts",
    "SELECT id, user_id, balance::text FROM accounts",
  );
  const moved = await sql<{ id: string; account_id: string; type: string; amount: string; reference_order_id: string | null }>(
    "accounts",
    "SELECT t.id, account_id, type, t.amount::text, reference_order_id FROM transactions t JOIN accounts a ON a.id = t.account_id",
  );
  const orders = await sql<OrderRow>("orders", "SELECT id, user_id, amount::text, status, reason FROM orders WHERE status = 'FINISHED'");
  const topUps = await sql<{ id: string }>("payments", "SELECT id FROM top_ups");
  const credits = new Map(moved.filter(({ type }) => type === "CREDIT").map(({ id, amount }) => [id, amount]));
  const debits = new Map<string, number>();
  for (const { type, reference_order_id: orderId } of moved)
    if (type === "DEBIT" && orderId !== null) debits.set(orderId, (debits.get(orderId) ?? 0) + 1);
  for (const { id } of orders) {
    const times = debits.get(id) ?? 0;
    if (times === 0) lost.push(`order ${id} is FINISHED, and no money was moved`);
    if (times > 1) doubled.push(`order ${id} was debited ${times} times`);
    debits.delete(id);
  }
  for (const id of debits.keys()) wrong.push(`order ${id} was debited and isn't FINISHED`);
  let answered = 0;
  for (const customer of shop.customers) {
    for (const [key, { amount, answer }] of customer.topUps) {
      answered++;
      if (credits.get(answer.id) !== String(amount))
        lost.push(`top-up ${key} of ${amount} was answered 201; credited: ${credits.get(answer.id)}`);
    }
    const own = accounts.filter(({ user_id: userId }) => userId === customer.userId);
    if (own.length > 1) doubled.push(`customer ${customer.userId} has ${own.length} accounts`);
    if (customer.accountId === undefined) continue;
    const account = own.find(({ id }) => id === customer.accountId);
    if (account === undefined) lost.push(`account ${customer.accountId} was answered 201 and isn't there`);
    else if (BigInt(account.balance) !== balanceOf(customer, orders))
      wrong.push(`account ${account.id} has ${account.balance}, its top-ups and orders make ${balanceOf(customer, orders)}`);
  }
  if (topUps.length !== answered || credits.size !== answered)
    (topUps.length < answered || credits.size < answered ? lost : doubled).push(
      `${answered} top-ups were answered, ${topUps.length} are stored, ${credits.size} were credited`,
    );
}

function balanceOf(customer: Customer, finished: readonly OrderRow[]): bigint {
  let balance = 0n;
  for (const { amount } of customer.topUps.values()) balance += amount;
  for (const order of finished) if (order.user_id === customer.userId) balance -= BigInt(order.amount);
  return balance;
}

/** What a client sees: a customer's last orders and balance over REST, as the tables have them. */
async function compareRest(shop: Shop, url: string, { wrong, lost }: Findings): Promise<void> {
  for (const customer of shop.customers.slice(-5)) {
    const rest = restOf(url, shop.identityOf(customer.userId));
    const { body } = await rest.orders("?page_size=500");
    const newest = [...customer.orders.values()].slice(-200);
    const seen = new Map(body.orders.map((order) => [order.id, order]));
    for (const { answer } of newest) {
      const order = seen.get(answer.id);
      if (order === undefined) lost.push(`order ${answer.id} isn't listed`);
      else if (order.status === "NEW") wrong.push(`order ${answer.id} is listed as NEW`);
    }
  }
}
