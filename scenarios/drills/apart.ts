import { setTimeout as sleep } from "node:timers/promises";
import { type Drill, type Stage, underLoad } from "./drill.ts";
import { openProcesses } from "./processes.ts";
import { sharedSite } from "./site.ts";

/** Who runs together; what they ask of each other goes over gRPC. */
const PROCESSES = [["gateway", "orders"], ["payments"], ["accounts"], ["auth", "notifications"]];

/** The services in processes of their own, each of which is killed, frozen or told to stop. */
export const apart: Drill = {
  name: "apart",
  text: "gateway and orders, payments, accounts, and auth as four processes that call each other; any of them killed, frozen or told to stop",
  async openStage(): Promise<Stage> {
    const processes = await openProcesses(await sharedSite(), PROCESSES);
    return {
      ...processes.stage,
      async round(random) {
        const victim = random.pick(processes.all);
        const how = random.pick(["SIGKILL", "SIGSTOP", "SIGTERM"] as const);
        const afterMs = random.between(50, 1_200);
        const awayMs = random.between(0, 2_500);
        const backMs = await underLoad(processes.shop, processes.addresses, random, async () => {
          await sleep(afterMs);
          if (how === "SIGSTOP") victim.child.signal(how);
          else {
            const end = await processes.end(victim, how);
            if (how === "SIGTERM" && end !== 0) throw new Error(`${victim.services} was told to stop and ended with ${end}`);
          }
          await sleep(awayMs);
          const startedMs = performance.now();
          if (how === "SIGSTOP") victim.child.signal("SIGCONT");
          else await processes.bringBack(victim);
          const backMs = performance.now() - startedMs;
          await sleep(random.between(200, 800));
          return backMs;
        });
        return { broken: `${how} of ${victim.services} for ${awayMs} ms after ${afterMs} ms`, backMs, findings: await processes.compare() };
      },
    };
  },
};

/** Accounts is away for minutes: orders are taken all the while, none becomes a dead letter, and all end when it is back. */
export const away: Drill = {
  name: "away",
  text: "the same processes; accounts is killed and stays away for two to three minutes (only by its name)",
  onlyByName: true,
  async openStage(): Promise<Stage> {
    const processes = await openProcesses(await sharedSite(), PROCESSES);
    return {
      ...processes.stage,
      async round(random) {
        const { shop } = processes;
        const awayMs = random.between(120_000, 180_000);
        await underLoad(shop, processes.addresses, random, () => sleep(1_000));
        const accounts = processes.of("accounts");
        await processes.end(accounts, "SIGKILL");
        await underLoad(shop, processes.addresses, random, () => sleep(awayMs), { workers: 1, ordersAlone: true });
        const startedMs = performance.now();
        await processes.bringBack(accounts);
        const backMs = performance.now() - startedMs;
        return { broken: `accounts away for ${awayMs} ms`, backMs, findings: await processes.compare() };
      },
    };
  },
};
