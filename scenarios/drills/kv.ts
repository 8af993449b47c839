import { setTimeout as sleep } from "node:timers/promises";
import { createClient } from "@redis/client";
import { kvMigrations } from "#platform/process/key-value-store.ts";
import { until } from "../support/until.ts";
import type { Findings } from "./check.ts";
import { both, type Crew, type Fault, frozenUntil, killed, openCrew, postgresKilled, startAgain, startAll, toldToStop } from "./crew.ts";
import type { Drill, Stage } from "./drill.ts";
import { CALLS, type KvOperations, type KvProcess, openKvProcess } from "./drill-kv.ts";
import { engineCommand } from "./engines.ts";

/** Some that all count on at once, and many that are read and then left alone for seconds: a copy that is too old stays where nobody writes. */
const HOT_COUNTERS = 4;
const COUNTERS = Array.from({ length: 200 }, (_, n) => `c${n}`);
const LIMITS = ["x", "y"];
const REDIS_AWAY_MS = [0, 300, 1_500, 4_000];
/** Longer than a process is frozen: what isn't answered by then hangs. */
const ANSWERS_WITHIN_MS = 15_000;
const BACK_WITHIN_MS = 20_000;
const COUNTING = 2;
const READING = 2;
const PAUSE_MS_MAX = 10;

/** What is known of a counter since a round began: the steps that somebody was told to have made, and the tries that weren't answered. */
type Counter = { readonly name: string; readonly told: Set<number>; unanswered: number; beganAt: number; standsAt: number };

/** A call that was let through, at some time between these. */
type Passed = { readonly key: string; readonly fromMs: number; readonly toMs: number };

/** A place for the store: processes that use it as they are told, and what PostgreSQL says itself. */
type Place = Crew & {
  readonly truth: KvProcess;
  readonly counters: readonly Counter[];
  readonly passed: Passed[];
  /** When Redis may have lost what it had counted: before that and after, calls are counted apart. */
  readonly losses: { readonly fromMs: number; readonly toMs: number }[];
  /** Some may reach Redis and others not. Then alone may a copy be older than what was written last: away from all, it serves nobody. */
  isDivided: boolean;
  findings: Findings;
  codes: number;
  reads: number;
  writes: number;
};

const redisAway: Fault<Place> = async (place, random) => {
  const action = random.pick(["kill", "stop", "freeze"] as const);
  const awayMs = random.pick(REDIS_AWAY_MS);
  const fromMs = performance.now();
  await engineCommand(action, "redis");
  if (action === "kill") place.losses.push({ fromMs, toMs: performance.now() });
  await sleep(awayMs);
  place.isDivided = true;
  await engineCommand("start", "redis");
  return `${action} of Redis for ${awayMs} ms`;
};

const flushed: Fault<Place> = async ({ losses, environment: { REDIS_URL = "" } }) => {
  const client = createClient({ url: REDIS_URL });
  await client.connect();
  const fromMs = performance.now();
  await client.flushAll();
  losses.push({ fromMs, toMs: performance.now() });
  await client.close();
  return "all of Redis deleted";
};

/** One that goes on takes Redis for away, as it has owed it an answer for so long. */
const frozen = frozenUntil<Place>((place) => {
  place.isDivided = true;
});

/** One that ends between its commit and all that it does after: what it wrote is seen, and what was copied before it isn't. */
const killedOnceWritten: Fault<Place> = async (place, random) => {
  const counter = place.counters[random.between(HOT_COUNTERS, COUNTERS.length)] as Counter;
  const [victim] = place.children;
  // What isn't there isn't copied.
  await countOn(place, 1, counter);
  while (victim?.isRunning()) {
    await read(place, 1, counter);
    const from = await read(place, 0, counter);
    if (from === undefined) continue;
    if ((await ask(place, 0, "countAndDie", counter.name, from)) === undefined) counter.unanswered += 1;
  }
  const stands = await place.truth.operations.read(counter.name);
  for (const i of [1, 2]) {
    const seen = await ask(place, i, "read", counter.name);
    if (seen === undefined || seen < stands)
      place.findings.wrong.push(`counter ${counter.name} stands at ${stands}, and at ${seen} as process ${i} sees it`);
  }
  await startAgain(place, 0);
  return "SIGKILL of one as it had committed";
};

/** The key-value store on PostgreSQL and Redis. */
export const kv: Drill = {
  name: "kv",
  text: "the key-value store in three processes; Redis is killed, stopped, frozen for up to 4 s or emptied, processes are killed, frozen or told to stop, or PostgreSQL is killed",
  needs: ["redis"],
  openStage: () => openStage(FAULTS),
};

const FAULTS: readonly Fault<Place>[] = [
  redisAway,
  redisAway,
  flushed,
  killed,
  killedOnceWritten,
  frozen,
  toldToStop,
  postgresKilled,
  both(killed, redisAway),
  both(killed, flushed),
  both<Place>(postgresKilled, redisAway),
];

async function openStage(faults: readonly Fault<Place>[]): Promise<Stage> {
  const { REDIS_URL = "" } = process.env;
  const environment = { REDIS_URL, REDIS_PREFIX: `drill.${crypto.randomUUID().slice(0, 8)}.` };
  const crew = await openCrew({ script: "kv-process.ts", database: "drill_kv", migrations: kvMigrations, environment });
  const { DATABASE_URL } = crew.environment;
  const place: Place = {
    ...crew,
    truth: await openKvProcess({ DATABASE_URL }),
    counters: COUNTERS.map((name) => ({ name, told: new Set(), unanswered: 0, beganAt: 0, standsAt: 0 })),
    passed: [],
    losses: [],
    isDivided: false,
    findings: { lost: [], doubled: [], wrong: [] },
    codes: 0,
    reads: 0,
    writes: 0,
  };
  await startAll(place);
  await untilTogether(place);
  return {
    folder: crew.folder,
    counts: () => ({ reads: place.reads, writes: place.writes }),
    async round(random) {
      place.findings = { lost: [], doubled: [], wrong: [] };
      const load = startLoad(place);
      try {
        const afterMs = random.between(50, 1_200);
        await sleep(afterMs);
        const broken = `${await random.pick(faults)(place, random)} after ${afterMs} ms`;
        const backMs = await untilTogether(place);
        await sleep(random.between(200, 600));
        await load.stop();
        await checkCounters(place);
        checkLimits(place);
        return { broken, backMs, findings: place.findings };
      } finally {
        await load.stop();
      }
    },
    said: crew.said,
    async close(options) {
      await place.truth.close();
      await crew.close(options);
    },
  };
}

/** Asks a process; undefined where it gave no answer, so that nobody knows what became of it. */
async function ask<Name extends keyof KvOperations>(
  { children, findings }: Place,
  i: number,
  operation: Name,
  ...args: Parameters<KvOperations[Name]>
): Promise<Awaited<ReturnType<KvOperations[Name]>> | undefined> {
  try {
    const { http = "" } = (await children[i]?.ready) ?? {};
    const signal = AbortSignal.timeout(ANSWERS_WITHIN_MS);
    const response = await fetch(http, { method: "POST", body: JSON.stringify([operation, ...args]), signal });
    if (response.ok) return (await response.json()) as Awaited<ReturnType<KvOperations[Name]>>;
    const failure = await response.text();
    if (response.status !== 503) findings.wrong.push(`${operation} ${args}: ${failure}`);
  } catch (error) {
    if ((error as Error).name === "TimeoutError") findings.wrong.push(`${operation} ${args} wasn't answered in ${ANSWERS_WITHIN_MS} ms`);
  }
  await sleep(PAUSE_MS_MAX);
  return undefined;
}

/** Until every process reaches Redis and uses the store again; gives how long that took. */
async function untilTogether(place: Place): Promise<number> {
  const startedMs = performance.now();
  const isBack = async (i: number): Promise<boolean> =>
    (await ask(place, i, "isWhole")) === true &&
    (await ask(place, i, "read", COUNTERS[0] as string)) !== undefined &&
    (await ask(place, i, "issue", crypto.randomUUID())) !== undefined;
  const wait = (i: number): Promise<boolean> => until(`process ${i}`, () => isBack(i), { withinMs: BACK_WITHIN_MS });
  await Promise.all(place.children.map((_, i) => wait(i)));
  place.isDivided = false;
  return performance.now() - startedMs;
}

/** Uses the store all the time, through every process. */
function startLoad(place: Place): { stop(): Promise<void> } {
  let isOver = false;
  const again = async (use: () => Promise<unknown>): Promise<void> => {
    for (; !isOver; await sleep(Math.random() * PAUSE_MS_MAX)) await use();
  };
  const counter = (): Counter => {
    const among = Math.random() < 0.5 ? HOT_COUNTERS : COUNTERS.length;
    return place.counters[Math.floor(Math.random() * among)] as Counter;
  };
  const users = place.children.flatMap((_, i) => [
    ...Array.from({ length: COUNTING }, () => again(() => countOn(place, i, counter()))),
    ...Array.from({ length: READING }, () => again(() => read(place, i, counter()))),
    again(() => issueAndUse(place, i)),
    ...LIMITS.map((key) => again(() => take(place, i, key))),
  ]);
  return {
    async stop() {
      isOver = true;
      await Promise.all(users);
    },
  };
}

/** Where a counter stands: never before a step that was answered when this began. */
async function read(place: Place, i: number, { name, standsAt }: Counter): Promise<number | undefined> {
  const { isDivided } = place;
  const stands = await ask(place, i, "read", name);
  if (stands === undefined) return undefined;
  place.reads += 1;
  if (stands < standsAt && !isDivided)
    place.findings.wrong.push(`counter ${name} went back from ${standsAt} to ${stands}, as process ${i} sees it`);
  return stands;
}

/** Tries until one step is made, or nobody knows. */
async function countOn(place: Place, i: number, counter: Counter): Promise<void> {
  for (;;) {
    const from = await read(place, i, counter);
    if (from === undefined) return;
    const isMade = await ask(place, i, "count", counter.name, from);
    if (isMade === false) continue;
    if (isMade === undefined) {
      counter.unanswered += 1;
      return;
    }
    place.writes += 1;
    if (counter.told.has(from + 1)) place.findings.doubled.push(`step ${from + 1} of counter ${counter.name} was made by two`);
    counter.told.add(from + 1);
    counter.standsAt = Math.max(counter.standsAt, from + 1);
    return;
  }
}

/** A code is used by one at the most; by one, if all are answered; and is gone then. */
async function issueAndUse(place: Place, i: number): Promise<void> {
  const { findings, children } = place;
  const code = crypto.randomUUID();
  const isIssued = await ask(place, i, "issue", code);
  if (isIssued === false) findings.wrong.push(`code ${code} was there before it was issued`);
  const uses = await Promise.all(children.map((_, by) => ask(place, by, "use", code)));
  const users = uses.filter((isUsed) => isUsed === true).length;
  if (users > 1) findings.doubled.push(`code ${code} was used ${users} times`);
  if (isIssued === true && uses.every((isUsed) => isUsed === false)) findings.lost.push(`code ${code} was there for nobody`);
  if (users !== 1) return;
  place.writes += 2;
  const { isDivided } = place;
  const seen = await Promise.all(children.map((_, by) => ask(place, by, "isIssued", code)));
  if (seen.includes(true) && !isDivided) findings.wrong.push(`code ${code} was there after it was used`);
}

async function take(place: Place, i: number, key: string): Promise<void> {
  const fromMs = performance.now();
  if (await ask(place, i, "take", key)) place.passed.push({ key, fromMs, toMs: performance.now() });
}

/** That each counter stands where those who counted say, to PostgreSQL and to every process; a new round begins there. */
async function checkCounters(place: Place): Promise<void> {
  const { lost, doubled, wrong } = place.findings;
  const stood = await Promise.all(COUNTERS.map((name) => place.truth.operations.read(name)));
  for (const i of place.children.keys()) {
    const seen = await Promise.all(COUNTERS.map((name) => ask(place, i, "read", name)));
    for (const [n, name] of COUNTERS.entries())
      if (seen[n] !== stood[n]) wrong.push(`counter ${name} stands at ${stood[n]}, and at ${seen[n]} as process ${i} sees it`);
  }
  for (const [n, counter] of place.counters.entries()) {
    const { name, told, unanswered, beganAt } = counter;
    const stands = stood[n] as number;
    const untold = stands - beganAt - told.size;
    if (untold < 0) lost.push(`${-untold} steps of counter ${name}, which stands at ${stands}`);
    if (untold > unanswered) doubled.push(`counter ${name} made ${untold} steps that nobody was told of, for ${unanswered} tries`);
    told.clear();
    Object.assign(counter, { unanswered: 0, beganAt: stands, standsAt: stands });
  }
}

/** That no window has let more through than it may, whenever it began. */
function checkLimits({ passed, losses, findings }: Place): void {
  const isWithin = ({ fromMs, toMs }: Passed): boolean => losses.some((loss) => fromMs <= loss.toMs && toMs >= loss.fromMs);
  const counted = Map.groupBy(
    passed.filter((each) => !isWithin(each)),
    ({ key, fromMs }) => `${key} ${losses.filter(({ toMs }) => toMs < fromMs).length}`,
  );
  if (passed.length === 0) findings.wrong.push("no call was let through");
  for (const [key, calls] of counted) {
    const inWindow = ({ fromMs: beginsMs }: Passed): number =>
      calls.filter(({ fromMs, toMs }) => fromMs >= beginsMs && toMs <= beginsMs + CALLS.windowMs).length;
    const most = Math.max(...calls.map(inWindow));
    if (most > CALLS.limit) findings.wrong.push(`limit ${key}: ${most} calls in one window, of ${CALLS.limit}`);
  }
  passed.length = 0;
  losses.length = 0;
}
