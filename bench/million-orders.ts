import type { Bench } from "./bench.ts";
import { measureHere } from "./support/calling.ts";
import { assertBooksBalance, type Customer, openCustomers } from "./support/customers.ts";
import { addOrders } from "./support/million.ts";
import { runOrders } from "./support/order-flow.ts";
import { startPolis } from "./support/polis.ts";
import { alternate, ratioFigure } from "./support/rounds.ts";
import { connect, startServer } from "./support/server.ts";

const ROUNDS = 3;
const CUSTOMERS = 1_000;
const ORDERS = 8_000;
const CALLERS = 512;
const FILLED = 1_000_000;

export const millionOrders: Bench = {
  name: "million-orders",
  text: "orders to FINISHED, in process, after a million orders beside an empty database",
  async run({ parts, report }) {
    const empty = await openFlow(parts, 0);
    const filled = await openFlow(parts, FILLED);
    const found = await alternate({ empty: empty.round, filled: filled.round }, ROUNDS);
    await assertBooksBalance(filled.polis);
    report(
      ratioFigure({
        name: "orders to FINISHED after a million orders",
        unit: "orders/s",
        rounds: found.filled,
        beside: { name: "empty database", rounds: found.empty },
        goal: { of: "ratio", atLeast: 0.9 },
        note: "each on a server of its own, filled by SQL in all tables that an order leaves rows in",
      }),
    );
  },
};

/** A server of its own with a Polis in this process, which has seen so many orders. */
async function openFlow(parts: AsyncDisposableStack, filled: number) {
  const server = await startServer(parts);
  let customers: Customer[];
  {
    await using first = parts.use(new AsyncDisposableStack());
    const polis = await startPolis(server, first);
    customers = await openCustomers(polis, CUSTOMERS);
    await runOrders(polis, await connect(server, "polis_orders", first), { customers, count: ORDERS, callers: CALLERS });
  }
  if (filled > 0) await addOrders(server, filled);
  const polis = await startPolis(server, parts);
  const orders = await connect(server, "polis_orders", parts);
  return { polis, round: () => measureHere(server, () => runOrders(polis, orders, { customers, count: ORDERS, callers: CALLERS })) };
}
