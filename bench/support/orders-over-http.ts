import { strict as assert } from "node:assert";
import type { Client } from "pg";
import { orderBody, type startLoad } from "./load.ts";
import { watchOrders } from "./order-flow.ts";
import type { SpawnedPolis } from "./polis.ts";
import type { Round } from "./rounds.ts";
import type { BenchServer } from "./server.ts";

/** A round of orders over HTTP, from the first POST to the last FINISHED. */
export function ordersOverHttp(of: {
  /** The one that answers HTTP; its CPU alone is counted. */
  readonly polis: SpawnedPolis;
  readonly server: BenchServer;
  /** A connection to the database of orders. */
  readonly orders: Client;
  readonly load: ReturnType<typeof startLoad>;
  readonly customers: readonly string[];
  readonly connections: number;
  readonly count: number;
}): () => Promise<Round> {
  const { polis, server, orders, load, customers, connections, count } = of;
  return async () => {
    const watch = await watchOrders(orders);
    const cpu = () => [polis.cpuUs(), server.cpuUs()].map((us) => us ?? Number.NaN) as [number, number];
    const [node, postgres] = cpu();
    const { startedMs, refused } = await load.ask({
      origin: polis.url,
      path: "/orders",
      customers: [...customers],
      body: orderBody,
      connections,
      until: { count },
    });
    assert.equal(refused, 0, "every order is taken");
    const endedMs = performance.timeOrigin + (await watch.awaitFinished(count));
    const [nodeNow, postgresNow] = cpu();
    const used = (us: number): number | undefined => (Number.isNaN(us) ? undefined : us / count);
    return { value: (count / (endedMs - startedMs)) * 1000, nodeUs: used(nodeNow - node), postgresUs: used(postgresNow - postgres) };
  };
}
