import { strict as assert } from "node:assert";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { ordersService } from "../services/orders/service.ts";
import type { Bench } from "./bench.ts";
import { startChild } from "./support/child.ts";
import { authorizations } from "./support/http-customers.ts";
import { orderBody, startLoad } from "./support/load.ts";
import type { Origin } from "./support/plain-fastify.ts";
import { spawnPolis } from "./support/polis.ts";
import { alternate, type Round, ratioFigure } from "./support/rounds.ts";
import { connect, startServer } from "./support/server.ts";

const ROUNDS = 3;
const ROUND_MS = 2_000;
const CUSTOMERS = 1_000;

export const httpInsert: Bench = {
  name: "http-insert",
  text: "POST /orders beside a plain Fastify route that makes the same insert",
  async run({ parts, report }) {
    const server = await startServer(parts);
    const polis = await spawnPolis(server, parts, "orders,auth,notifications,gateway");

    const admin = await connect(server, "postgres", parts);
    await admin.query("CREATE DATABASE plain");
    const plainDatabase = await connect(server, "plain", parts);
    await plainDatabase.query(await readFile(join(ordersService.folder, "migrations", "0001-orders.sql"), "utf8"));
    const connectionFile = join(server.folder, "plain.json");
    await writeFile(connectionFile, JSON.stringify(server.connection("plain")), { mode: 0o600 });
    const plain = startChild<object, Origin>(join(import.meta.dirname, "support", "plain-fastify.ts"), [connectionFile], parts);
    const { origin } = await plain.ask({});

    const load = startLoad(parts);
    const customers = await authorizations(server, parts, CUSTOMERS);
    const run = (to: string, cpuUs: () => number | undefined, connections: number) => async (): Promise<Round> => {
      const [node, postgres] = [cpuUs(), server.cpuUs()];
      const { count, elapsedMs, refused } = await load.ask({
        origin: to,
        path: "/orders",
        customers,
        body: orderBody,
        connections,
        until: { ms: ROUND_MS },
      });
      assert.equal(refused, 0, "every order is taken");
      const used = (before: number | undefined, after: number | undefined) =>
        before === undefined || after === undefined ? undefined : (after - before) / count;
      return { value: (count / elapsedMs) * 1000, nodeUs: used(node, cpuUs()), postgresUs: used(postgres, server.cpuUs()) };
    };
    for (const connections of [64, 256]) {
      const found = await alternate(
        { plain: run(origin, plain.cpuUs, connections), polis: run(polis.url, polis.cpuUs, connections) },
        ROUNDS,
      );
      report(
        ratioFigure({
          name: `POST /orders, ${connections} connections`,
          unit: "requests/s",
          rounds: found.polis,
          beside: { name: "plain Fastify route with an INSERT", rounds: found.plain },
          note: "Polis also verifies each token once, looks whether it was revoked, keeps the key with its answer, writes the event and publishes it; payments aren't there to take it",
        }),
      );
    }
  },
};
