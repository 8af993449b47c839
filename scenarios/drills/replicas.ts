import { setTimeout as sleep } from "node:timers/promises";
import { type Drill, type Stage, underLoad } from "./drill.ts";
import { openProcesses } from "./processes.ts";
import { enginesSite } from "./site.ts";

const OF_EACH = ["gateway", "orders", "payments", "accounts"];
const QUIET_MS = 3_000;

/** Three of everything, of which one is killed and stays away: what the others do is as good as before. */
export const replicas: Drill = {
  name: "replicas",
  text: "three gateways, orders, payments and accounts each on all engines; rate and latency are told, one is killed and stays away for seconds",
  needs: ["kafka", "registry", "pgbouncer"],
  async openStage(): Promise<Stage> {
    const processes = await openProcesses(await enginesSite(), [
      ...OF_EACH.flatMap((service) => [[service], [service], [service]]),
      ["auth", "notifications"],
    ]);
    const { shop } = processes;
    return {
      ...processes.stage,
      async round(random) {
        const victim = random.pick(processes.all);
        const awayMs = random.between(500, 5_000);
        const told: string[] = [];
        /** How many commands are answered a second meanwhile, and how fast. */
        const measure = async (what: string, work: () => Promise<unknown>): Promise<void> => {
          const [first, startedMs] = [shop.answeredAfterMs.length, performance.now()];
          await work();
          const answered = shop.answeredAfterMs.slice(first).sort((a, b) => a - b);
          const at = (part: number): string => (answered[Math.floor(answered.length * part)] ?? Number.NaN).toFixed(0);
          const rate = (answered.length * 1_000) / (performance.now() - startedMs);
          told.push(`${what} ${rate.toFixed(0)}/s, p50 ${at(0.5)} ms, p99 ${at(0.99)} ms`);
        };
        const backMs = await underLoad(shop, processes.addresses, random, async () => {
          await measure("all", () => sleep(QUIET_MS));
          await measure("without it", () => Promise.all([processes.end(victim, "SIGKILL"), sleep(awayMs)]));
          const startedMs = performance.now();
          await processes.bringBack(victim);
          const lastedMs = performance.now() - startedMs;
          await measure("back", () => sleep(QUIET_MS));
          return lastedMs;
        });
        const broken = `SIGKILL of one of three ${victim.services} for ${awayMs} ms (${told.join("; ")})`;
        return { broken, backMs, findings: await processes.compare() };
      },
    };
  },
};
