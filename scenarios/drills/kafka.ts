import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { platformSettings } from "#platform/config/platform-settings.ts";
import { readSettings } from "#platform/config/settings.ts";
import { reachGroups } from "#platform/process/event-log.ts";
import { createLog } from "#platform/telemetry/create-log.ts";
import { openApart, type Part } from "./apart.ts";
import { type Drill, type Stage, underLoad } from "./drill.ts";
import type { Random } from "./random.ts";
import type { KafkaOfDrill } from "./site.ts";

/** Of the engines that `.ci/engines` started: this drill ends it and starts it again. */
const engines = (action: "kill" | "start"): Promise<unknown> =>
  promisify(execFile)(join(import.meta.dirname, "..", "..", ".ci", "engines"), [action, "kafka"]);

/** Kafka killed and away for a while, a process of three killed, or one after the other. */
export const kafka: Drill = {
  name: "kafka",
  text: "the three processes over Kafka; Kafka is killed and away for up to 20 s, one of the processes is killed, or both",
  needs: { setting: "KAFKA_URL", from: ".ci/engines up kafka" },
  async openStage(): Promise<Stage> {
    const apart = await openApart(await kafkaOfDrill(process.env.KAFKA_URL ?? ""));
    const killPart = async (random: Random): Promise<string> => {
      const victim: Part = random.pick(apart.parts);
      victim.child.signal("SIGKILL");
      apart.isGone(victim);
      await victim.child.ended;
      await sleep(random.between(0, 1_500));
      await apart.bringBack(victim);
      return `SIGKILL of ${victim.services}`;
    };
    const killKafka = async (random: Random, meanwhile?: () => Promise<string>): Promise<string> => {
      const awayMs = random.pick([0, 500, 3_000, 8_000, 20_000]);
      await engines("kill");
      const also = await meanwhile?.();
      await sleep(awayMs);
      await engines("start");
      return `SIGKILL of Kafka, away for ${awayMs} ms${also === undefined ? "" : `, and meanwhile ${also}`}`;
    };
    return {
      ...apart.stage,
      async round(random) {
        const how = random.pick(["kafka", "kafka", "part", "both"] as const);
        const afterMs = random.between(50, 1_200);
        let startedMs = 0;
        const broken = await underLoad(apart.stage.shop, apart.addresses, random, async () => {
          await sleep(afterMs);
          const what =
            how === "part" ? await killPart(random) : await killKafka(random, how === "both" ? () => killPart(random) : undefined);
          startedMs = performance.now();
          await sleep(random.between(200, 800));
          return what;
        });
        const findings = await apart.compare();
        return { broken: `${broken} after ${afterMs} ms`, backMs: performance.now() - startedMs, findings };
      },
    };
  },
};

async function kafkaOfDrill(url: string): Promise<KafkaOfDrill> {
  const environment = { KAFKA_URL: url, KAFKA_PREFIX: `drill.${randomUUID()}.` };
  const log = await createLog({ level: "fatal", format: "json" });
  const { groups } = await reachGroups({ settings: readSettings(environment, platformSettings([])), log });
  return {
    environment,
    behind: async () => (await groups.list()).filter(({ lag }) => lag > 0n).map(({ group, lag }) => `${group} is ${lag} behind`),
  };
}
