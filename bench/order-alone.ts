import { strict as assert } from "node:assert";
import { setTimeout as sleep } from "node:timers/promises";
import type { Client } from "pg";
import { type Bench, figure } from "./bench.ts";
import { authorizations, openHttpAccounts, post } from "./support/http-customers.ts";
import { orderBody } from "./support/load.ts";
import { spawnPolis } from "./support/polis.ts";
import { openPublication } from "./support/publication.ts";
import { quantile, repeat } from "./support/repeat.ts";
import { median } from "./support/rounds.ts";
import { type BenchServer, connect, startServer } from "./support/server.ts";

/** One right after the other; and each after a rest, in which the processors fall asleep, as they do where nobody calls. */
const PACES = [
  { pauseMs: 0, goals: true, pace: "" },
  { pauseMs: 15, goals: false, pace: ", after 15 ms of rest" },
];

export const orderAlone: Bench = {
  name: "order-alone",
  text: "one order at a time: POST → FINISHED; one event at a time: publish → handled",
  async run({ parts, report }) {
    const reportTimes = (name: string, times: readonly number[], atMost: number | undefined, note: string): void =>
      report(
        figure({
          name,
          value: median(times),
          unit: "ms",
          medianOf: times.length,
          note: `p90 ${quantile(times, 0.9).toFixed(1)} ms; ${note}`,
          ...(atMost === undefined ? {} : { goal: { of: "value", atMost } }),
        }),
      );
    {
      await using own = parts.use(new AsyncDisposableStack());
      const server = await startServer(own);
      const polis = await spawnPolis(server, own);
      const orders = await connect(server, "polis_orders", own);
      const [customer = ""] = await authorizations(server, own, 1);
      await openHttpAccounts(polis.url, [customer]);
      for (const { pauseMs, goals, pace } of PACES) {
        const times = await repeat(pauseMs, () => orderToFinished(`${polis.url}/orders`, customer, orders));
        const finished = times.map(({ finishedMs }) => finishedMs);
        const note = "over HTTP from another process, which looks every millisecond";
        reportTimes(`POST → FINISHED alone, p50${pace}`, finished, goals ? 8 : undefined, note);
        const answered = times.map(({ answeredMs }) => answeredMs);
        reportTimes(`POST → 201 alone, p50${pace}`, answered, undefined, "of the same orders");
      }
    }
    const server = await startServer(parts);
    const publish = await openPublication(server, parts);
    const commit = await openCommit(server, parts);
    for (const { pauseMs, goals, pace } of PACES) {
      const times = await repeat(pauseMs, publish);
      const floor = median(await repeat(pauseMs, commit));
      const note = `from the commit that publishes to the commit of what the handler wrote; a single INSERT takes ${floor.toFixed(2)} ms so`;
      reportTimes(`publish → handled, p50${pace}`, times, goals ? 3 : undefined, note);
    }
  },
};

async function orderToFinished(url: string, customer: string, orders: Client): Promise<{ answeredMs: number; finishedMs: number }> {
  const startedMs = performance.now();
  const { id } = await post(url, customer, orderBody);
  const answeredMs = performance.now() - startedMs;
  for (;;) {
    const { rows } = await orders.query<{ status: string }>({
      name: "status",
      text: "SELECT status FROM orders WHERE id = $1",
      values: [id],
    });
    if (rows[0]?.status === "FINISHED") return { answeredMs, finishedMs: performance.now() - startedMs };
    assert.equal(rows[0]?.status, "NEW");
    await sleep(1);
  }
}

/** The least that a durable transaction takes here. */
async function openCommit(server: BenchServer, parts: AsyncDisposableStack): Promise<() => Promise<number>> {
  const client = await connect(server, "postgres", parts);
  await client.query("CREATE TABLE commits (n int)");
  return async () => {
    const startedMs = performance.now();
    await client.query("INSERT INTO commits VALUES (1)");
    return performance.now() - startedMs;
  };
}
