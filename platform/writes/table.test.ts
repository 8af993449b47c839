import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { CreateOrderRequestSchema, OrderSchema, OrdersService } from "#contracts/polis/orders/v1/orders_pb.ts";
import { text, uuid } from "#platform/writes/columns.ts";
import { type Locks, operation } from "#platform/writes/definitions.ts";
import { contextOf, noPeers, pots, potsDatabase, userId, writerOn } from "#platform/writes/pots.testing.ts";
import { table } from "#platform/writes/table.ts";

const database = await potsDatabase();
await database.query({
  text: `CREATE TABLE shelves (id uuid PRIMARY KEY, hall text NOT NULL, letter text NOT NULL, keeper uuid NOT NULL CONSTRAINT shelves_keeper UNIQUE,
           CONSTRAINT shelves_place UNIQUE (hall, letter))`,
});
const shelves = table(
  "shelves",
  { id: uuid, hall: text, letter: text, keeper: uuid },
  { unique: { place: { fields: ["hall", "letter"], taken: "place_taken" }, keeper: { fields: ["keeper"], taken: "keeper_taken" } } },
);

/** The rows that a command finds by these names. */
async function found(locks: Locks): Promise<unknown> {
  let seen: unknown;
  const look = operation(OrdersService.method.createOrder, {
    lock: () => locks,
    write(_tx, _request, { locked, id }) {
      seen = locked;
      return create(OrderSchema, { id, userId, amount: 1n });
    },
  });
  await writerOn(database).execute(look, create(CreateOrderRequestSchema), contextOf(), noPeers);
  return seen;
}

test("a text names the row that has it as it is written, a uuid in either case", async () => {
  const id = "0191F0A0-0000-7000-8000-00000000000A";
  await database.query({ text: "INSERT INTO pots VALUES ('p', 1, 'Bob')" });
  await database.query({ text: "INSERT INTO shelves VALUES ($1, 'East', 'A', $1)", values: [id] });
  expect(await found([pots.rowBy("nick", "Bob"), pots.rowBy("nick", "bob"), pots.row("P")])).toMatchObject([
    { name: "p" },
    undefined,
    undefined,
  ]);
  const shelf = { id: id.toLowerCase() };
  expect(await found([shelves.row(id), shelves.rowBy("keeper", id), shelves.rowBy("place", "East", "A")])).toMatchObject([
    shelf,
    shelf,
    shelf,
  ]);
  expect(await found([shelves.rowBy("place", "east", "A")])).toEqual([undefined]);
});

test("a key that reads like a name by an index hides no row", async () => {
  await database.query({ text: "INSERT INTO pots VALUES ('nick x', 1, 'n1'), ('other', 2, 'x')" });
  expect(await found({ byKey: pots.row("nick x"), byNick: pots.rowBy("nick", "x") })).toMatchObject({
    byKey: { name: "nick x" },
    byNick: { name: "other" },
  });
});

test("rows whose unique texts differ in case alone are worked on together", async () => {
  const [upper, lower] = ["0191f0a0-0000-7000-8000-00000000000b", "0191f0a0-0000-7000-8000-00000000000c"];
  await database.query({ text: "INSERT INTO shelves VALUES ($1, 'West', 'A', $1), ($2, 'West', 'a', $2)", values: [upper, lower] });
  expect(await found([shelves.row(upper), shelves.row(lower)])).toMatchObject([{ letter: "A" }, { letter: "a" }]);
});
