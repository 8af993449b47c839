import { setTimeout as sleep } from "node:timers/promises";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { NoteSchema, ReportSchema, ScanSchema, StatementSchema, UrgentNoteSchema } from "#contracts/polis/tasktest/v1/tasktest_pb.ts";
import { rabbitClient, TEST_QUEUES, testRabbit } from "#platform/tasks/rabbit.testing.ts";
import type { Tx } from "#platform/writes/definitions.ts";
import { until } from "../support/until.ts";
import type { Findings } from "./check.ts";
import { both, type Crew, type Fault, frozen, killed, openCrew, postgresKilled, startAll, toldToStop } from "./crew.ts";
import type { Drill, Stage } from "./drill.ts";
import { EFFECTS, migrations, openTaskProcess, type TaskProcess } from "./drill-tasks.ts";
import { engineCommand } from "./engines.ts";

const TRANSACTIONS = 120;
const ENDED_WITHIN_MS = 60_000;
const BROKER_AWAY_MS = [0, 500, 3_000, 8_000];
const SCANS_AT_ONCE = 2;

/** What became of a task, as far as who enqueued it knows. */
type Wanted = { readonly id: string; readonly kind: "good" | "poison" | "cancelled"; readonly isSure: boolean };

/** A place for tasks: processes that do them, and one that enqueues them. */
type Place = Crew & {
  readonly client: TaskProcess;
  /** Of what isn't sure to be there, only if it is. */
  readonly wanted: Wanted[];
  readonly neverThere: string[];
};

const brokerAway: Fault = async (_, random) => {
  const action = random.pick(["kill", "stop", "freeze"] as const);
  const awayMs = random.pick(BROKER_AWAY_MS);
  await engineCommand(action, "rabbitmq");
  await sleep(awayMs);
  await engineCommand("start", "rabbitmq");
  return `${action} of RabbitMQ for ${awayMs} ms`;
};

/** What confirms that were lost come to, and a broker that lost its disk. */
const purged: Fault = async ({ environment: { RABBITMQ_PREFIX = "" } }, random) => {
  const rabbit = rabbitClient(testRabbit(RABBITMQ_PREFIX));
  const isDeleted = random.chance(0.3);
  for (const name of TEST_QUEUES) {
    const queue = `${RABBITMQ_PREFIX}${name}`;
    if (isDeleted) await rabbit.queueDelete({ queue });
    else await rabbit.queuePurge({ queue });
  }
  await rabbit.close();
  return `all queues ${isDeleted ? "deleted" : "emptied"}`;
};

/** Tasks of every kind on PostgreSQL alone. */
export const tasks: Drill = {
  name: "tasks",
  text: "tasks in three processes on PostgreSQL; some of them are killed, frozen or told to stop, or the server is; each is done once",
  openStage: () => openStage({}, [killed, killed, frozen, toldToStop, postgresKilled, both(killed, postgresKilled)]),
};

/** The same, carried by RabbitMQ. */
export const tasksOverRabbit: Drill = {
  name: "tasks-rabbitmq",
  text: "the same carried by RabbitMQ, which is killed, stopped or frozen for up to 8 s, or loses all messages",
  needs: ["rabbitmq"],
  openStage: () => {
    const { RABBITMQ_URL = "" } = process.env;
    const environment = { RABBITMQ_URL, RABBITMQ_PREFIX: `drill.${crypto.randomUUID().slice(0, 8)}.` };
    return openStage(environment, [brokerAway, brokerAway, purged, both(killed, brokerAway), both(frozen, purged), killed, toldToStop]);
  },
};

async function openStage(engines: Readonly<Record<string, string>>, faults: readonly Fault[]): Promise<Stage> {
  const crew = await openCrew({ script: "task-process.ts", database: "drill_tasks", migrations, environment: engines });
  const client = await openTaskProcess(crew.environment, { works: false });
  await client.database.query({ text: EFFECTS });
  await startAll(crew);
  const place: Place = { ...crew, client, wanted: [], neverThere: [] };
  return {
    folder: crew.folder,
    counts: () => ({ tasks: place.wanted.length }),
    async round(random) {
      const first = place.wanted.length;
      const watch = watchScans(client);
      const afterMs = random.between(50, 1_200);
      const breaking = sleep(afterMs).then(() => random.pick(faults)(place, random));
      // Told below, once everything is enqueued.
      breaking.catch(() => undefined);
      // Numbers of their own: what is enqueued depends on the machine's timing, what is broken must not.
      await enqueueAll(place, Math.random);
      const broken = `${await breaking} after ${afterMs} ms`;
      const repairedMs = performance.now();
      const findings = await checked(place, first);
      const backMs = performance.now() - repairedMs;
      findings.wrong.push(...(await watch.stop()));
      return { broken, backMs, findings };
    },
    said: crew.said,
    async close(options) {
      await client.close();
      await crew.close(options);
    },
  };
}

/** One transaction after the other, each with some tasks; who doesn't know what became of one says so. */
async function enqueueAll(place: Place, chance: () => number): Promise<void> {
  const { client, wanted, neverThere } = place;
  for (let i = 0; i < TRANSACTIONS; i += 1) {
    const made: Wanted[] = [];
    const isRolledBack = chance() < 0.05;
    const add = (id: string, kind: Wanted["kind"] = "good"): void => void made.push({ id, kind, isSure: true });
    const items = (tx: Tx): void => {
      made.length = 0;
      const name = `${wanted.length}`;
      const runAt = chance() < 0.1 ? { runAt: timestampFromMs(Date.now() + chance() * 1_000) } : {};
      add(tx.enqueue(NoteSchema, { text: name }, runAt));
      add(tx.enqueue(UrgentNoteSchema, { text: name }, runAt));
      add(tx.enqueue(ReportSchema, { text: chance() < 0.05 ? `hangs ${name}` : name }));
      add(tx.enqueue(StatementSchema, { account: `${Math.floor(chance() * 5)}`, text: name }, runAt));
      if (chance() < 0.2) add(tx.enqueue(ScanSchema, { text: name }));
      if (chance() < 0.05) add(tx.enqueue(NoteSchema, { text: `poison ${name}` }), "poison");
      if (isRolledBack) throw new RolledBack();
    };
    const ended = await attempt(() => client.write(items));
    if (isRolledBack) neverThere.push(...made.map(({ id }) => id));
    else wanted.push(...made.map((each) => ({ ...each, isSure: ended })));
    // The same again under a key of its own, as a caller does that doesn't know what became of it.
    const key = `key ${i} ${wanted.length}`;
    let keyed = "";
    const again = (tx: Tx): void => {
      keyed = tx.enqueue(NoteSchema, { text: key }, { key });
    };
    const twice = () => attempt(() => client.write(again));
    if (chance() < 0.3) {
      const [one, other] = [await twice(), await twice()];
      wanted.push({ id: keyed, kind: "good", isSure: one || other });
    }
    const victim = made.at(Math.floor(chance() * made.length));
    if (
      chance() < 0.05 &&
      victim !== undefined &&
      !isRolledBack &&
      ended &&
      (await attempt(() => client.write((tx) => tx.cancelTask(victim.id))))
    )
      wanted[wanted.findIndex(({ id }) => id === victim.id)] = { ...victim, kind: "cancelled" };
    await sleep(10);
  }
}

class RolledBack extends Error {}

/** False where it failed, and so may or may not have been. */
const attempt = (act: () => Promise<unknown>): Promise<boolean> =>
  act().then(
    () => true,
    () => false,
  );

type Row = { readonly id: string; readonly state: string; readonly cause: string | null; readonly effects: number };

/** Waits until each of the round's tasks has ended, and says what is not as it should be. */
async function checked({ client, wanted, neverThere }: Place, first: number): Promise<Findings> {
  const findings: Findings = { lost: [], doubled: [], wrong: [] };
  const { database } = client;
  const unended =
    "SELECT id, type, state FROM tasks WHERE state IN ('WAITING', 'BLOCKED', 'RUNNING') AND coalesce(key, '') NOT LIKE 'schedule %' LIMIT 20";
  let left: { id: string; type: string; state: string }[] = [];
  await until(
    "the end of every task",
    async () => {
      left = (await database.query<(typeof left)[0]>({ text: unended })).rows;
      return left.length === 0;
    },
    { withinMs: ENDED_WITHIN_MS, everyMs: 50 },
  ).catch(() => undefined);
  for (const { id, type, state } of left) findings.lost.push(`${type} ${id} is still ${state}`);
  const { rows } = await database.query<Row>({
    text: "SELECT t.id, state, cause, (SELECT count(*)::int FROM effects e WHERE e.task = t.id) AS effects FROM tasks t WHERE coalesce(key, '') NOT LIKE 'schedule %'",
  });
  const found = new Map(rows.map((row) => [row.id, row]));
  for (const { id, kind, isSure } of wanted.slice(first)) {
    const row = found.get(id);
    if (row === undefined) {
      if (isSure) findings.lost.push(`task ${id} isn't there`);
      continue;
    }
    if (row.effects > 1) findings.doubled.push(`task ${id} has had its effect ${row.effects} times`);
    if (row.state === "DONE" && row.effects === 0) findings.lost.push(`task ${id} is done, without its effect`);
    if (row.state !== "DONE" && row.effects > 0) findings.wrong.push(`task ${id} is ${row.state}, and has had its effect`);
    const expected = kind === "cancelled" ? ["DONE", "CANCELED"] : kind === "poison" ? ["FAILED"] : ["DONE"];
    // A worker that is killed time and again with the same task in its hands takes its tries.
    if (!expected.includes(row.state) && row.cause !== "Its worker was lost.")
      findings.wrong.push(`task ${id} is ${row.state}: ${row.cause}`);
  }
  for (const id of neverThere) if (found.has(id)) findings.wrong.push(`task ${id} is there, though its transaction was rolled back`);
  findings.wrong.push(...(await checkTicks(client)));
  return findings;
}

/** That the schedule goes on, and each of its times has one task with one effect. */
async function checkTicks({ database }: TaskProcess): Promise<string[]> {
  const wrong: string[] = [];
  const twice = "SELECT text, count(*)::int AS n FROM effects WHERE text LIKE 'tick %' GROUP BY text HAVING count(*) > 1";
  for (const { text, n } of (await database.query<{ text: string; n: number }>({ text: twice })).rows) wrong.push(`${text}: ${n} times`);
  const later = "SELECT FROM effects WHERE text LIKE 'tick %' AND at > clock_timestamp() - interval '3 s' LIMIT 1";
  await until("another tick", async () => (await database.query({ text: later })).rowCount > 0, { withinMs: 10_000 }).catch(() =>
    wrong.push("the schedule has stopped"),
  );
  return wrong;
}

/** Looks all the time how many of a limited queue run. */
function watchScans({ database }: TaskProcess): { stop(): Promise<string[]> } {
  const wrong = new Set<string>();
  let isOver = false;
  const look = async (): Promise<void> => {
    while (!isOver) {
      const counted = await database
        .query<{ n: number }>({ text: "SELECT count(*)::int AS n FROM tasks WHERE state = 'RUNNING' AND queue = 'test.scans'" })
        .catch(() => undefined);
      const n = counted?.rows[0]?.n ?? 0;
      if (n > SCANS_AT_ONCE) wrong.add(`${n} scans ran at once`);
      await sleep(20);
    }
  };
  const looking = look();
  return {
    async stop() {
      isOver = true;
      await looking;
      return [...wrong];
    },
  };
}
