import { execFile } from "node:child_process";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import type { EngineName } from "#platform/engines.testing.ts";
import type { EventLog } from "#platform/events/event-log.ts";
import { topicsOf } from "#platform/events/event-types.ts";
import type { EventRecord } from "#platform/events/record.ts";
import { pause } from "#platform/events/signal.ts";
import { orderPayments } from "../../systems/order-payments.ts";
import { type Drill, type Stage, underLoad } from "./drill.ts";
import { openProcesses, type PolisProcess, type Processes } from "./processes.ts";
import type { Random } from "./random.ts";
import { enginesSite } from "./site.ts";

/** How long each may be away; of Kafka, most is to be feared. */
const AWAY_MS = {
  kafka: [0, 500, 3_000, 8_000, 20_000],
  postgres: [0, 500, 3_000],
  pgbouncer: [0, 500, 3_000],
  registry: [0, 3_000],
  rabbitmq: [0, 3_000],
} as const;
type Engine = keyof typeof AWAY_MS;
const ENGINES: readonly Engine[] = ["kafka", "kafka", "postgres", "postgres", "pgbouncer", "registry", "rabbitmq"];
/** Without these no process starts. */
const NEEDED_AT_START: readonly Engine[] = ["postgres", "pgbouncer"];

const STARTS_MAX = 5;

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

/** What `.ci/engines`, which has started them, does to an engine; gives what it printed. */
export const engineCommand = async (
  action: "kill" | "stop" | "freeze" | "start" | "log",
  engine: EngineName | "postgres",
): Promise<string> => {
  const engines = join(import.meta.dirname, "..", "..", ".ci", "engines");
  return (await promisify(execFile)(engines, [action, engine], { maxBuffer: LOG_BYTES_MAX })).stdout;
};

/** An engine ended or frozen for a while, a process killed, or both; and all the while events come twice, and long after their time. */
export const engines: Drill = {
  name: "engines",
  text: "gateway, orders, payments and accounts on PgBouncer, Kafka, a schema registry and RabbitMQ; an engine is ended or frozen for up to 20 s, a process killed, or both; events come again",
  needs: ["kafka", "registry", "pgbouncer", "rabbitmq"],
  async openStage(): Promise<Stage> {
    const site = await enginesSite();
    const processes = await openProcesses(site, [["gateway"], ["orders"], ["payments"], ["accounts"], ["auth", "notifications"]]);
    const heard = await hear(site.log);
    return {
      ...processes.stage,
      async round(random) {
        const afterMs = random.between(50, 1_200);
        const failuresBefore = await coordinatorFailures();
        let mender: Mender | undefined;
        const work = async (): Promise<Awaited<ReturnType<typeof fault>>> => {
          await sleep(afterMs);
          const done = await fault(processes, random);
          mender = startMending(failuresBefore);
          await sleep(random.between(200, 800));
          return done;
        };
        try {
          const repeating = () => whileRepeating(site.log, heard, work);
          const options = { workers: WORKERS, answersWithinMs: ANSWERS_WITHIN_MS };
          const { what, backMs } = await underLoad(processes.shop, processes.addresses, random, repeating, options);
          const findings = await processes.compare();
          const mended = (await mender?.stop()) ? " (Kafka's coordinator failed, and it was started again)" : "";
          return { broken: `${what} after ${afterMs} ms${mended}`, backMs, findings };
        } finally {
          await mender?.stop();
        }
      },
    };
  },
};

type Mender = {
  /** Resolves, when nothing is being mended any more, with how often something was. */
  stop(): Promise<number>;
};

/** From now on starts a Kafka again whose coordinator has failed since it had failed so often, as whoever runs it would. */
function startMending(failuresBefore: number): Mender {
  const stopping = new AbortController();
  const mend = async (): Promise<number> => {
    let times = 0;
    for (let seen = failuresBefore; !stopping.signal.aborted; await pause(LOOK_EVERY_MS, stopping.signal)) {
      const now = await coordinatorFailures();
      if (now === seen) continue;
      seen = now;
      times += 1;
      await engineCommand("kill", "kafka");
      await engineCommand("start", "kafka");
    }
    return times;
  };
  const mending = mend();
  // Told by `stop`.
  mending.catch(() => undefined);
  return {
    stop() {
      stopping.abort();
      return mending;
    },
  };
}

const coordinatorFailures = async (): Promise<number> => [...(await engineCommand("log", "kafka")).matchAll(COORDINATOR_FAILED)].length;

/** Breaks something and repairs it; says what it was, and how long it took from the start of the repair until all were ready. */
async function fault(processes: Processes, random: Random): Promise<{ readonly what: string; readonly backMs: number }> {
  const engine = random.chance(0.8) ? random.pick(ENGINES) : undefined;
  const victim = engine === undefined || engine === "registry" || random.chance(0.3) ? random.pick(processes.all) : undefined;
  const action = random.pick(["kill", "stop", "freeze"] as const);
  const awayMs = engine === undefined ? 0 : random.pick(AWAY_MS[engine]);
  const said: string[] = [];
  if (engine !== undefined) {
    await engineCommand(action, engine);
    said.push(`${action} of ${engine} for ${awayMs} ms`);
  }
  if (victim !== undefined) {
    await processes.end(victim, "SIGKILL");
    said.push(`SIGKILL of ${victim.services}`);
  }
  let backMs = 0;
  const timed = async (repair: () => Promise<unknown>): Promise<void> => {
    const startedMs = performance.now();
    await repair();
    backMs += performance.now() - startedMs;
  };
  const bringBack = async (process: PolisProcess | undefined): Promise<void> => {
    if (process === undefined) return;
    await sleep(random.between(0, 1_500));
    await timed(() => startAgain(processes, process));
  };
  const isNeeded = engine !== undefined && NEEDED_AT_START.includes(engine);
  if (!isNeeded) await bringBack(victim);
  if (engine !== undefined) {
    await sleep(awayMs);
    await timed(() => engineCommand("start", engine));
  }
  if (isNeeded) await bringBack(victim);
  return { what: said.join(", and "), backMs };
}

/** As a supervisor would: PgBouncer refuses logins for a while after it has been refused itself, and what starts then ends. */
async function startAgain(processes: Processes, process: PolisProcess): Promise<void> {
  for (let starts = 1; ; starts++)
    try {
      return await processes.bringBack(process);
    } catch (error) {
      if (starts === STARTS_MAX || !String(error).includes("server login has been failing")) throw error;
    }
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
