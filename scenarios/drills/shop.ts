import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { type Account, type Answer, type NewOrder, type Order, restOf, type Transaction } from "../support/rest-client.ts";
import type { Counts } from "./counts.ts";
import type { Random } from "./random.ts";

/*
 * The customers of a drill, and what they know: every command has an Idempotency-Key and is repeated under it until it is
 * answered, as a careful client's would be. What was answered is remembered, and is all that the checks compare with.
 */

/** What customers are, and so what must become of their orders. */
const KINDS = ["rich", "poor", "without account", "dollars"] as const;
export type Kind = (typeof KINDS)[number];

export type Customer = {
  readonly userId: string;
  readonly kind: Kind;
  accountId: string | undefined;
  /** Keys of commands whose answer is known, with it. */
  readonly topUps: Map<string, { readonly amount: bigint; readonly answer: Transaction }>;
  readonly orders: Map<string, { readonly sent: NewOrder; readonly answer: Order }>;
};

export type Shop = {
  readonly customers: Customer[];
  /** The headers by which a customer is known. */
  readonly identityOf: (userId: string) => Readonly<Record<string, string>>;
  /** Requests sent, repeats for want of an answer among them. */
  requests: number;
  repeats: number;
  /** How long each answer took, in milliseconds, in the order of their coming. */
  readonly answeredAfterMs: number[];
  /** Answers that nobody should get: another one to a repeat, a refusal, a fault. */
  readonly wrongAnswers: string[];
};

export const openShop = (identityOf: Shop["identityOf"]): Shop => ({
  identityOf,
  customers: [],
  requests: 0,
  repeats: 0,
  answeredAfterMs: [],
  wrongAnswers: [],
});

export const countsOf = ({ customers, requests, repeats }: Shop): Counts => ({
  requests,
  repeats,
  orders: customers.reduce((sum, { orders }) => sum + orders.size, 0),
  "top-ups": customers.reduce((sum, { topUps }) => sum + topUps.size, 0),
});

/** A process that is frozen doesn't answer; who waits longer than this asks again. */
const REQUEST_TIMEOUT_MS = 3_000;
/** Who is told "not now", or reaches nobody, comes again after so long. */
const PAUSE_MS = 20;
const COMMAND_TIMEOUT_MS = 90_000;

/** Where Polis answers now; more than one address: any of them. */
export type Addresses = () => readonly string[];

export type Load = {
  /** Waits for the answers that are missing. */
  stop(): Promise<void>;
  /** Waits for nothing. */
  abandon(): void;
};

export type LoadOptions = {
  /** Commands at a time. */
  readonly workers?: number;
  /** Nobody new, and no top-ups: what would have to wait for accounts. */
  readonly ordersAlone?: boolean;
  /** So long a process that runs may take over an answer, whatever is away: one that takes longer hangs. */
  readonly answersWithinMs?: number;
};

/** What a worker works with. */
type Counter = {
  readonly shop: Shop;
  readonly addresses: Addresses;
  readonly random: Random;
  readonly ordersAlone: boolean;
  readonly answersWithinMs: number | undefined;
  readonly abandoned: AbortSignal;
};

/** Customers come in and give commands, so many at a time, until it is stopped. */
export function startLoad(shop: Shop, addresses: Addresses, random: Random, options: LoadOptions = {}): Load {
  const { workers = 8, ordersAlone = false, answersWithinMs } = options;
  let stopping = false;
  const abandoning = new AbortController();
  const counter: Counter = { shop, addresses, random, ordersAlone, answersWithinMs, abandoned: abandoning.signal };
  const work = async (): Promise<void> => {
    while (!stopping) {
      if (!ordersAlone && (shop.customers.length < 6 || random.chance(0.01))) await newCustomer(counter);
      else await oneCommand(counter);
    }
  };
  const working = Promise.all(Array.from({ length: workers }, work));
  working.catch(() => undefined);
  return {
    async stop() {
      stopping = true;
      await working;
    },
    abandon: () => {
      stopping = true;
      abandoning.abort();
    },
  };
}

async function newCustomer(counter: Counter): Promise<void> {
  const { shop, random } = counter;
  const kind = random.pick(KINDS);
  const customer: Customer = { userId: randomUUID(), kind, accountId: undefined, topUps: new Map(), orders: new Map() };
  if (kind !== "without account") {
    const body = { currency: kind === "dollars" ? "USD" : "RUB" };
    const opened = await command<Account>(counter, { customer, path: "/accounts", body, key: randomUUID() });
    customer.accountId = opened.id;
    await topUp(counter, customer, kind === "poor" ? 3_000n : 10n ** 12n);
  }
  shop.customers.push(customer);
}

async function oneCommand(counter: Counter): Promise<void> {
  const { shop, random, ordersAlone } = counter;
  const customer = random.pick(shop.customers);
  if (!ordersAlone && customer.accountId !== undefined && random.chance(0.2))
    return topUp(counter, customer, BigInt(random.between(1, 2_000)));
  const [repeated] = [...customer.orders].slice(-3);
  if (repeated !== undefined && random.chance(0.1)) return repeatOrder(counter, customer, repeated);
  const key = randomUUID();
  const sent = { amount: String(random.between(1, 1_500)), description: `order ${key}` };
  const answer = await command<Order>(counter, { customer, path: "/orders", body: sent, key });
  if (answer.status !== "NEW" || answer.amount !== sent.amount || answer.userId !== customer.userId)
    shop.wrongAnswers.push(`order ${key} was answered ${JSON.stringify(answer)}`);
  customer.orders.set(key, { sent, answer });
}

/** A client that lost the answer after all: it must get the first one, whatever was killed since. */
async function repeatOrder(
  counter: Counter,
  customer: Customer,
  [key, { sent, answer }]: [string, { sent: NewOrder; answer: Order }],
): Promise<void> {
  const again = await command<Order>(counter, { customer, path: "/orders", body: sent, key });
  if (JSON.stringify(again) !== JSON.stringify(answer))
    counter.shop.wrongAnswers.push(`the repeat of order ${key} was answered ${JSON.stringify(again)} after ${JSON.stringify(answer)}`);
}

async function topUp(counter: Counter, customer: Customer, amount: bigint): Promise<void> {
  const key = randomUUID();
  const path = `/accounts/${customer.accountId}/top-ups`;
  const answer = await command<Transaction>(counter, { customer, path, body: { amount: String(amount) }, key });
  if (answer.type !== "CREDIT" || answer.amount !== String(amount))
    counter.shop.wrongAnswers.push(`top-up ${key} was answered ${JSON.stringify(answer)}`);
  customer.topUps.set(key, { amount, answer });
}

type Command = { readonly customer: Customer; readonly path: string; readonly body: object; readonly key: string };

/** Repeats the command under its key until it is answered. */
async function command<T>(counter: Counter, { customer, path, body, key }: Command): Promise<T> {
  const { shop, abandoned } = counter;
  const endsAtMs = performance.now() + COMMAND_TIMEOUT_MS;
  for (let tries = 1; performance.now() < endsAtMs; tries++) {
    if (abandoned.aborted) throw new Error("the drill gave up");
    shop.requests++;
    if (tries > 1) shop.repeats++;
    const sentMs = performance.now();
    const answer = await send<T>(counter, customer, { path, body, key });
    if (answer?.status === 201) {
      shop.answeredAfterMs.push(performance.now() - sentMs);
      return answer.body;
    }
    // 503, 504, 429: not now. Everything else would be told to a user as final.
    if (answer !== undefined && ![429, 503, 504].includes(answer.status)) {
      shop.wrongAnswers.push(`${path} under ${key} was answered ${answer.status} ${JSON.stringify(answer.body)} at try ${tries}`);
      if (answer.status < 500) throw new Error(shop.wrongAnswers.at(-1));
    }
    await sleep(PAUSE_MS);
  }
  throw new Error(`${path} under ${key} was not answered within ${COMMAND_TIMEOUT_MS} ms`);
}

/** Undefined where nobody answers. */
async function send<T>(
  { shop, addresses, random, answersWithinMs }: Counter,
  customer: Customer,
  { path, body, key }: Omit<Command, "customer">,
): Promise<Answer<T> | undefined> {
  const urls = addresses();
  if (urls.length === 0) return undefined;
  const timeoutMs = answersWithinMs ?? REQUEST_TIMEOUT_MS;
  try {
    return await restOf(random.pick(urls), shop.identityOf(customer.userId), { timeoutMs }).call<T>("POST", path, { body, key });
  } catch (error) {
    if (answersWithinMs !== undefined && (error as Error).name === "TimeoutError")
      shop.wrongAnswers.push(`${path} under ${key} had no answer, not even a refusal, for ${answersWithinMs} ms`);
    return undefined;
  }
}
