import { setTimeout as sleep } from "node:timers/promises";
import { openApart } from "./apart.ts";
import { type Drill, type Stage, underLoad } from "./drill.ts";
import { enginesSite } from "./site.ts";

const OF_EACH = ["gateway", "orders", "payments", "accounts"];
const QUIET_MS = 3_000;

/** Three of everything, of which one is killed and stays away: what the others do is as good as before. */
export const replicas: Drill = {
  name: "replicas",
  text: "three gateways, orders, payments and accounts each on all engines; rate and latency are told, one is killed and stays away for seconds",
  needs: ["kafka", "registry", "pgbouncer"],
  async openStage(): Promise<Stage> {
    const apart = await openApart(
      await enginesSite(),
      OF_EACH.flatMap((service) => [service, service, service]),
    );
    const { shop } = apart.stage;
    return {
      ...apart.stage,
      async round(random) {
        const victim = random.pick(apart.parts);
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
        let startedMs = 0;
        await underLoad(shop, apart.addresses, random, async () => {
          await measure("all", () => sleep(QUIET_MS));
          victim.child.signal("SIGKILL");
          apart.isGone(victim);
          await measure("without it", () => Promise.all([victim.child.ended, sleep(awayMs)]));
          startedMs = performance.now();
          await apart.bringBack(victim);
          await measure("back", () => sleep(QUIET_MS));
        });
        const findings = await apart.compare();
        return {
          broken: `SIGKILL of a ${victim.services} for ${awayMs} ms (${told.join("; ")})`,
          backMs: performance.now() - startedMs,
          findings,
        };
      },
    };
  },
};
