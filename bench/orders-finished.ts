import type { Bench } from "./bench.ts";
import { measureHere } from "./support/calling.ts";
import { assertBooksBalance, openCustomers } from "./support/customers.ts";
import { runOrders } from "./support/order-flow.ts";
import { startPolis } from "./support/polis.ts";
import { alternate, ratioFigure } from "./support/rounds.ts";
import { connect, startServer } from "./support/server.ts";
import { openYardstick } from "./support/yardstick.ts";

const ROUNDS = 3;
const YARDSTICK_S = 2;
const CUSTOMERS = 1_000;
const ORDERS = 15_000;
const CALLERS = 512;

export const ordersFinished: Bench = {
  name: "orders-finished",
  text: "orders to FINISHED through the in-process client, beside pgbench TPC-B",
  async run({ parts, report }) {
    const server = await startServer(parts);
    const yardstick = await openYardstick(server, parts);
    const polis = await startPolis(server, parts);
    const orders = await connect(server, "polis_orders", parts);
    const customers = await openCustomers(polis, CUSTOMERS);
    const found = await alternate(
      {
        yardstick: () => yardstick.run(YARDSTICK_S),
        many: () => measureHere(server, () => runOrders(polis, orders, { customers, count: ORDERS, callers: CALLERS })),
        one: () =>
          measureHere(server, () => runOrders(polis, orders, { customers: customers.slice(0, 1), count: ORDERS, callers: CALLERS })),
      },
      ROUNDS,
      server.tidy,
    );
    await assertBooksBalance(polis);
    const shared = { unit: "orders/s", beside: { name: yardstick.name, rounds: found.yardstick } };
    report(
      ratioFigure({
        ...shared,
        name: "orders to FINISHED, in process",
        rounds: found.many,
        goal: { of: "ratio", atLeast: 1.5 },
        note: `${CUSTOMERS} customers; not done below 1.2 ×`,
      }),
    );
    report(
      ratioFigure({ ...shared, name: "orders to FINISHED, in process, all of one customer", rounds: found.one, note: "one hot account" }),
    );
  },
};
