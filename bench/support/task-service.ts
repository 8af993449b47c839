import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { NoteSchema } from "#contracts/polis/tasktest/v1/tasktest_pb.ts";
import { serviceCaller } from "#platform/access/caller.ts";
import { systemClock } from "#platform/clock.ts";
import { defaultEventTimings } from "#platform/events/timings.ts";
import { uuidv7 } from "#platform/ids.ts";
import type { Database } from "#platform/postgres/database.ts";
import type { TaskBroker } from "#platform/tasks/broker.ts";
import { task } from "#platform/tasks/define-task.ts";
import { startTaskWorker, type TaskWorker } from "#platform/tasks/task-worker.ts";
import { defaultTaskTimings } from "#platform/tasks/timings.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";
import { passingTracer } from "#platform/telemetry/tracing.ts";
import { text, uuid } from "#platform/writes/columns.ts";
import { manifestOf } from "#platform/writes/manifest.ts";
import { table } from "#platform/writes/table.ts";
import { Writer } from "#platform/writes/writer.ts";
import { benchLog } from "./log.ts";

const SERVICE = "tasktest";

const effects = table<{ readonly id: string; readonly text: string }>("effects", { id: uuid, text });

export type TaskService = {
  /** Enqueues tasks, all in one transaction, as a command would. */
  enqueue(count: number): Promise<readonly string[]>;
  /** Works until the answer is called. */
  work(started: (id: string) => void): Promise<() => Promise<void>>;
};

/** A service with one task, which inserts its id into `effects`. */
export function openTaskService(database: Database, broker?: TaskBroker): TaskService {
  let worker: TaskWorker | undefined;
  let onStart: (id: string) => void = () => {};
  const metrics = new Metrics();
  const logger = benchLog();
  const note = task(NoteSchema, {
    write(tx, { text: what }, { commandId }) {
      onStart(commandId);
      tx.insert(effects, { id: commandId, text: what });
    },
  });
  const writer = new Writer({
    service: SERVICE,
    database,
    metrics,
    manifest: manifestOf(SERVICE, { tasks: [NoteSchema], offersTasks: broker !== undefined }),
    published: () => {},
    enqueued: (tasks) => worker?.enqueued(tasks),
  });
  return {
    async enqueue(count) {
      const nowMs = systemClock();
      let ids: string[] = [];
      const item = {
        parts: {
          write: (tx: Parameters<typeof note.parts.write>[0]) => {
            ids = Array.from({ length: count }, () => tx.enqueue(NoteSchema, { text: "a note" }));
          },
        },
        input: undefined,
        prepared: undefined,
        caller: serviceCaller(SERVICE),
        id: uuidv7(nowMs),
        commandId: uuidv7(nowMs),
        now: timestampFromMs(nowMs),
        trace: { traceparent: "", causationId: "" },
      };
      const [outcome] = await writer.apply([item], { first: [], last: () => [] });
      if (outcome?.kind !== "applied") throw outcome?.error;
      return ids;
    },
    async work(started) {
      onStart = started;
      worker = await startTaskWorker({
        service: SERVICE,
        database,
        tasks: [note],
        schedules: new Map(),
        apply: writer.apply,
        broker,
        logger,
        metrics,
        tracer: passingTracer,
        clock: systemClock,
        timings: { ...defaultEventTimings, ...defaultTaskTimings },
        wakeups: { notify() {}, on() {}, async close() {} },
        transportFor: () => {
          throw new Error("there are no peers here");
        },
      });
      return async () => {
        await worker?.stop();
        worker = undefined;
      };
    },
  };
}
