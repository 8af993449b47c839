import { execFile } from "node:child_process";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import type { EventLog } from "#platform/events/event-log.ts";
import { topicsOf } from "#platform/events/event-types.ts";
import type { EventRecord } from "#platform/events/record.ts";
import { orderPayments } from "../../systems/order-payments.ts";
import { type Apart, openApart, type Part } from "./apart.ts";
import { type Drill, type Round, type Stage, underLoad } from "./drill.ts";
import type { Random } from "./random.ts";
import { enginesSite } from "./site.ts";

/** How long each may be away; of Kafka, most is to be feared. */
const AWAY_MS = {
  kafka: [0, 500, 3_000, 8_000, 20_000],
  postgres: [0, 500, 3_000],
  pgbouncer: [0, 500, 3_000],
  registry: [0, 3_000],
} as const;
type Engine = keyof typeof AWAY_MS;
const ENGINES: readonly Engine[] = ["kafka", "kafka", "postgres", "postgres", "pgbouncer", "registry"];
/** Without these no process starts. */
const NEEDED_AT_START: readonly Engine[] = ["postgres", "pgbouncer"];

const LOG_BYTES_MAX = 256 * 1024 * 1024;
/**
 * Seen now and then after a SIGKILL of Kafka 4.4: its group coordinator answers nobody any more, until the broker is started again. Of
 * several brokers another would take its groups over.
 */
const COORDINATOR_FAILED = /is out of sync with the underlying log/g;
const LOOK_EVERY_MS = 1_000;

const RECORDS_KEPT = 2_000;
const REPEATS_AT_ONCE = 8;
const REPEAT_EVERY_MS = 150;
/** Fewer than elsewhere: engines start on the same machine meanwhile. */
const WORKERS = 3;
/** A gateway gives a call 15 s. */
const ANSWERS_WITHIN_MS = 18_000;

/** Does to an engine what `.ci/engines` can, which has started it, and gives what that printed. */
const command = async (action: "kill" | "stop" | "start" | "log", engine: Engine): Promise<string> => {
  const engines = join(import.meta.dirname, "..", "..", ".ci", "engines");
  return (await promisify(execFile)(engines, [action, engine], { maxBuffer: LOG_BYTES_MAX })).stdout;
};

/** An engine ended and away for a while, a process killed, or both; and all the while events come twice, and long after their time. */
export const engines: Drill = {
  name: "engines",
  text: "gateway, orders, payments and accounts on PgBouncer, Kafka and a schema registry; an engine is ended for up to 20 s, a process killed, or both; events come again",
  needs: ["kafka", "registry", "pgbouncer"],
  async openStage(): Promise<Stage> {
    const site = await enginesSite();
    const apart = await openApart(site, ["gateway", "orders", "payments", "accounts"]);
    const heard = await hear(site.log);
    return {
      ...apart.stage,
      round: (random) =>
        whileMending(async () => {
          const afterMs = random.between(50, 1_200);
          let startedMs = 0;
          const work = async (): Promise<string> => {
            await sleep(afterMs);
            const what = await fault(apart, random);
            startedMs = performance.now();
            await sleep(random.between(200, 800));
            return what;
          };
          const repeating = () => whileRepeating(site.log, heard, work);
          const broken = await underLoad(apart.stage.shop, apart.addresses, random, repeating, {
            workers: WORKERS,
            answersWithinMs: ANSWERS_WITHIN_MS,
          });
          const findings = await apart.compare();
          return { broken: `${broken} after ${afterMs} ms`, backMs: performance.now() - startedMs, findings };
        }),
    };
  },
};

/** Meanwhile starts a Kafka again whose coordinator has failed, as whoever runs it would. */
async function whileMending(round: () => Promise<Round>): Promise<Round> {
  const done = new AbortController();
  let times = 0;
  const mend = async (): Promise<void> => {
    let seen = await failures();
    while (!done.signal.aborted) {
      await sleep(LOOK_EVERY_MS);
      const now = await failures();
      if (now === seen) continue;
      seen = now;
      times += 1;
      await command("kill", "kafka");
      await command("start", "kafka");
    }
  };
  const mending = mend();
  try {
    const result = await round();
    return times === 0 ? result : { ...result, broken: `${result.broken} (Kafka's coordinator failed, and it was started again)` };
  } finally {
    done.abort();
    await mending;
  }
}

const failures = async (): Promise<number> => [...(await command("log", "kafka")).matchAll(COORDINATOR_FAILED)].length;

/** Breaks something, mends it, and says what it was. */
async function fault(apart: Apart, random: Random): Promise<string> {
  const engine = random.chance(0.8) ? random.pick(ENGINES) : undefined;
  const victim = engine === undefined || engine === "registry" || random.chance(0.3) ? random.pick(apart.parts) : undefined;
  const action = random.pick(["kill", "stop"] as const);
  const awayMs = engine === undefined ? 0 : random.pick(AWAY_MS[engine]);
  const said: string[] = [];
  if (engine !== undefined) {
    await command(action, engine);
    said.push(`${action} of ${engine} for ${awayMs} ms`);
  }
  if (victim !== undefined) {
    victim.child.signal("SIGKILL");
    apart.isGone(victim);
    await victim.child.ended;
    said.push(`SIGKILL of ${victim.services}`);
  }
  const bringBack = async (part: Part | undefined): Promise<void> => {
    if (part === undefined) return;
    await sleep(random.between(0, 1_500));
    await apart.bringBack(part);
  };
  const isNeeded = engine !== undefined && NEEDED_AT_START.includes(engine);
  if (!isNeeded) await bringBack(victim);
  if (engine !== undefined) {
    await sleep(awayMs);
    await command("start", engine);
  }
  if (isNeeded) await bringBack(victim);
  return said.join(", and ");
}

/** Some of what the log gets, from now on. */
async function hear(log: EventLog): Promise<readonly EventRecord[]> {
  const heard: EventRecord[] = [];
  const topics = topicsOf(orderPayments.services.flatMap(({ publishes }) => publishes));
  await log.ensureTopics(topics);
  await log.subscribe({
    group: "drill.hears",
    topics: topics.map(({ name }) => name),
    async handle({ records }) {
      for (const record of records)
        if (heard.length < RECORDS_KEPT) heard.push(record);
        else heard[Math.floor(Math.random() * RECORDS_KEPT)] = record;
    },
  });
  return heard;
}

/** Meanwhile publishes events again, of this round and of earlier ones, as a publisher does that doesn't know how far it came. */
async function whileRepeating<T>(log: EventLog, heard: readonly EventRecord[], work: () => Promise<T>): Promise<T> {
  const done = new AbortController();
  const repeat = async (): Promise<void> => {
    while (!done.signal.aborted) {
      await sleep(REPEAT_EVERY_MS);
      const again = Array.from({ length: Math.min(REPEATS_AT_ONCE, heard.length) }, () => heard[Math.floor(Math.random() * heard.length)]);
      // With the log away there is nothing to repeat.
      await log.publish(again as EventRecord[]).catch(() => undefined);
    }
  };
  const repeating = repeat();
  try {
    return await work();
  } finally {
    done.abort();
    await repeating;
  }
}
