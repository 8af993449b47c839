import type { Bench } from "./bench.ts";
import { authorizations, openHttpAccounts } from "./support/http-customers.ts";
import { startLoad } from "./support/load.ts";
import { ordersOverHttp } from "./support/orders-over-http.ts";
import { spawnPolis } from "./support/polis.ts";
import { alternate, ratioFigure } from "./support/rounds.ts";
import { connect, startServer } from "./support/server.ts";
import { openYardstick } from "./support/yardstick.ts";

const ROUNDS = 3;
const YARDSTICK_S = 2;
const CUSTOMERS = 1_000;
const ORDERS = 8_000;

export const ordersHttp: Bench = {
  name: "orders-http",
  text: "orders to FINISHED over HTTP, the load on the same machine, beside pgbench TPC-B",
  async run({ parts, report }) {
    const server = await startServer(parts);
    const yardstick = await openYardstick(server, parts);
    const polis = await spawnPolis(server, parts);
    const orders = await connect(server, "polis_orders", parts);
    const load = startLoad(parts);
    const customers = await authorizations(server, parts, CUSTOMERS);
    await openHttpAccounts(polis.url, customers);
    const flow = (connections: number) => ordersOverHttp({ polis, server, orders, load, customers, connections, count: ORDERS });
    const sides = { yardstick: () => yardstick.run(YARDSTICK_S), at64: flow(64), at256: flow(256) };
    const found = await alternate(sides, ROUNDS, server.tidy);
    for (const [connections, rounds] of [
      [64, found.at64],
      [256, found.at256],
    ] as const)
      report(
        ratioFigure({
          name: `orders to FINISHED over HTTP, ${connections} connections`,
          unit: "orders/s",
          rounds,
          beside: { name: yardstick.name, rounds: found.yardstick },
          goal: { of: "ratio", atLeast: 1 },
          note: `${CUSTOMERS} customers; done from 0.7 ×; Node is Polis alone, without the load's process`,
        }),
      );
  },
};
