import { join } from "node:path";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { OrderCreatedSchema } from "#contracts/polis/orders/v1/events_pb.ts";
import { CreateOrderRequestSchema, type Order, OrderSchema, OrdersService } from "#contracts/polis/orders/v1/orders_pb.ts";
import { userCaller } from "#platform/access/caller.ts";
import { noEquipment } from "#platform/equipment.testing.ts";
import type { ApplyItem } from "#platform/events/apply.ts";
import { testDatabase } from "#platform/postgres/database.testing.ts";
import type { Database } from "#platform/postgres/database.ts";
import { isRejection, type Rejection, reject } from "#platform/rejection.ts";
import type { Context } from "#platform/rpc/context.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";
import { bigint, text } from "#platform/writes/columns.ts";
import { operation } from "#platform/writes/definitions.ts";
import { manifestOf } from "#platform/writes/manifest.ts";
import { table } from "#platform/writes/table.ts";
import { Writer, type WriterSettings } from "#platform/writes/writer.ts";

/** A pot holds an amount and never less than nothing: the least that a batch can get wrong. */
export type Pot = { readonly name: string; readonly amount: bigint; readonly nick: string };

export const pots = table<Pot>(
  "pots",
  { name: text, amount: bigint, nick: text },
  { key: "name", unique: { nick: { fields: ["nick"], taken: "nick_taken" } } },
);

const POTS =
  "CREATE TABLE pots (name text PRIMARY KEY, amount bigint NOT NULL CHECK (amount >= -5), nick text NOT NULL CONSTRAINT pots_nick UNIQUE)";

export async function potsDatabase(): Promise<Database> {
  const database = await testDatabase({
    migrations: ["writes", "outbox", "inbox"].map((part) => join(import.meta.dirname, "..", part, "migrations")),
  });
  await database.query({ text: POTS });
  return database;
}

export const writerOn = (database: Database, settings: Partial<WriterSettings> = {}, published: () => void = () => {}): Writer =>
  new Writer({
    service: "test",
    database,
    equipment: noEquipment,
    metrics: new Metrics(),
    manifest: manifestOf("test", { publishes: [OrderCreatedSchema] }),
    published,
    enqueued: () => {},
    settings,
  });

export const userId = "11111111-1111-4111-8111-111111111111";

export const contextOf = (more: Partial<Context> = {}): Context => ({
  caller: userCaller(userId),
  deadlineMs: Date.now() + 30_000,
  signal: new AbortController().signal,
  cancelled: false,
  traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
  idempotencyKey: undefined,
  ...more,
});

export const noPeers = () => () => {
  throw new Error("there are no peers here");
};

/** The pot and what is put in or taken out; the answer's amount is what is in it then. */
export type Move = {
  readonly pot: string;
  readonly amount: bigint;
  readonly mode?: "" | "fault" | "data" | "nick" | "unnamed nick" | "unwritable" | "kept no";
};

/** What a column's encoding chokes on, as it does on a time past the year 275760. */
const unwritable = {
  toString() {
    throw new RangeError("can't be written");
  },
};

const answerOf = (pot: Pot, id: string): Order => create(OrderSchema, { id, userId, amount: pot.amount, description: pot.name });

/** Makes the pot where there is none, changes it where there is one, tells of it in an event, and says no to less than nothing. */
export const move = operation(OrdersService.method.createOrder, {
  lock: ({ description, currency: mode }) => ({
    pot: pots.row(description),
    // Who claims a unique value names who may hold it; what isn't named, the database finds when all is written.
    holder: mode === "nick" ? pots.rowBy("nick", "taken") : undefined,
  }),
  write(tx, { amount, description: name, currency: mode }, { locked: { pot }, id }) {
    const after = { name, amount: (pot?.amount ?? 0n) + amount, nick: mode.endsWith("nick") ? "taken" : `nick of ${name}` };
    if (pot === undefined) tx.insert(pots, after);
    else tx.update(pots, after);
    tx.publish(OrderCreatedSchema, { orderId: id, userId, amount: 1n, description: name, currency: "RUB" });
    if (mode === "fault") throw new Error("a fault after everything was written");
    if (mode === "data") tx.insert(pots, { name: `${name} beyond`, amount: -100n, nick: `beyond ${id}` });
    if (mode === "unwritable") tx.insert(pots, { name: `${name} unwritable`, amount: unwritable as never, nick: "" });
    if (mode === "kept no") return reject("insufficient_funds", undefined, { keepsWrites: true });
    if (after.amount < 0n) return reject("insufficient_funds");
    return answerOf(after, id);
  },
});

export const requestOf = ({ pot, amount, mode = "" }: Move): MessageInitShape<typeof CreateOrderRequestSchema> => ({
  amount,
  description: pot,
  currency: mode,
});

/** What became of a move, as one text: the amount then, the rejection's code, or that it failed. */
export async function outcomeOf(writer: Writer, wanted: Move, context: Context = contextOf()): Promise<string> {
  try {
    const answer = (await writer.execute(move, create(CreateOrderRequestSchema, requestOf(wanted)), context, noPeers)) as Order | Rejection;
    return isRejection(answer) ? answer.code : String(answer.amount);
  } catch (error) {
    return `failed: ${(error as Error).name}`;
  }
}

export const potsIn = async (database: Database): Promise<Record<string, bigint>> => {
  const { rows } = await database.query<Pot>({ text: "SELECT * FROM pots ORDER BY name" });
  return Object.fromEntries(rows.map(({ name, amount }) => [name, amount]));
};

/** An item of which a test only looks at the rows. */
export const anyItem: ApplyItem = {
  parts: { write: () => undefined },
  input: undefined,
  prepared: undefined,
  caller: userCaller(userId),
  id: userId,
  commandId: userId,
  now: timestampFromMs(0),
  trace: { traceparent: "", causationId: "" },
};
