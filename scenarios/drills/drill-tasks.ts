import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Message } from "@bufbuild/protobuf";
import { NoteSchema, ReportSchema, ScanSchema, StatementSchema, UrgentNoteSchema } from "#contracts/polis/tasktest/v1/tasktest_pb.ts";
import { defaultEventTimings } from "#platform/events/timings.ts";
import { connectionOf } from "#platform/postgres/connection-url.testing.ts";
import type { Database } from "#platform/postgres/database.ts";
import { openDatabase } from "#platform/postgres/open-database.ts";
import { schedule } from "#platform/tasks/define-schedule.ts";
import { type Task, task } from "#platform/tasks/define-task.ts";
import { testRabbit } from "#platform/tasks/rabbit.testing.ts";
import { openRabbitBroker } from "#platform/tasks/rabbit-broker.ts";
import { openTaskService } from "#platform/tasks/task-service.testing.ts";
import { defaultTaskTimings, type Timings } from "#platform/tasks/timings.ts";
import { createLog } from "#platform/telemetry/create-log.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";
import { text, uuid } from "#platform/writes/columns.ts";
import type { Tx } from "#platform/writes/definitions.ts";
import { table } from "#platform/writes/table.ts";

/** A row a run: were a task's effect written twice, there would be two. */
const effects = table<{ readonly row: string; readonly task: string; readonly text: string }>(
  "effects",
  { row: uuid, task: uuid, text },
  { key: "row" },
);

export const EFFECTS =
  "CREATE TABLE effects (row uuid PRIMARY KEY, task uuid NOT NULL, text text NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp())";

/** What the service's database is made of. */
export const migrations = ["writes", "outbox", "tasks"].map((part) => ({
  name: part,
  folder: join(import.meta.dirname, "..", "..", "platform", part, "migrations"),
}));

/** A dead worker is found sooner than in life, so that a round needn't wait for it. */
const timings: Timings = { ...defaultEventTimings, ...defaultTaskTimings, workerLeaseMs: 3_000, workerHeartbeatMs: 500 };

type Said = Message & { readonly text: string };
type Context = { readonly id: string; readonly commandId: string };

function write(tx: Tx, { text: what }: Said, { id, commandId }: Context): string {
  tx.insert(effects, { row: id, task: commandId, text: what });
  if (what.startsWith("poison")) throw new Error("it is poison");
  return what;
}

const HANGS_MS = 60_000;

/** Some take their time, some hang at their first try and heed no signal. */
async function prepare({ text: what }: Said, { attempt }: { readonly attempt: number }): Promise<void> {
  if (what.startsWith("hangs") && attempt === 1) await sleep(HANGS_MS, undefined, { ref: false });
  await sleep(Math.random() * 200);
}

const tasks: readonly Task[] = [
  task(NoteSchema, { write }),
  task(UrgentNoteSchema, { write }),
  task(ReportSchema, { prepare, write }),
  task(StatementSchema, { prepare, write }),
  task(ScanSchema, { prepare, write }),
];

/** Every second, while somebody is there. */
const schedules = new Map([
  ["tasktest.tick", schedule(NoteSchema, { cron: "* * * * * *", data: (at) => ({ text: `tick ${at.toISOString()}` }) })],
]);

export type TaskProcess = {
  readonly database: Database;
  /** Carries out one item that writes; throws where nothing was written, or it isn't known. */
  write(write: (tx: Tx) => unknown): Promise<void>;
  close(): Promise<void>;
};

/** The service in this process: DATABASE_URL says where its database is, RABBITMQ_URL and RABBITMQ_PREFIX what carries its tasks. */
export async function openTaskProcess(
  { DATABASE_URL = "", RABBITMQ_URL, RABBITMQ_PREFIX = "" }: Readonly<Record<string, string | undefined>>,
  { works }: { readonly works: boolean },
): Promise<TaskProcess> {
  const logger = await createLog({ level: works ? "warn" : "fatal", format: "json" });
  const metrics = new Metrics();
  const database = await openDatabase({ connection: connectionOf(DATABASE_URL), name: "tasktest", log: logger, metrics });
  const isCarried = RABBITMQ_URL !== undefined;
  const broker = isCarried
    ? await openRabbitBroker({ connection: testRabbit(RABBITMQ_PREFIX), logger, metrics, partingMs: timings.partingMs })
    : undefined;
  const service = openTaskService({
    database,
    tasks,
    offersTasks: isCarried,
    schedules,
    logger,
    metrics,
    timings,
    // Who only enqueues offers what is due at once itself.
    enqueued: (enqueued) => broker?.offer(enqueued.filter(({ runAt, concurrencyKey }) => (runAt ?? concurrencyKey) === undefined)),
  });
  if (works) await service.begin(broker);
  return {
    database,
    async write(parts) {
      const outcome = await service.write(parts);
      if (outcome.kind === "failed") throw outcome.error;
    },
    async close() {
      await service.stop();
      await broker?.close();
      await database.close();
    },
  };
}
