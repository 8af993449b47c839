import { NoteSchema } from "#contracts/polis/tasktest/v1/tasktest_pb.ts";
import { defaultEventTimings } from "#platform/events/timings.ts";
import type { Database } from "#platform/postgres/database.ts";
import type { TaskBroker } from "#platform/tasks/broker.ts";
import { task } from "#platform/tasks/define-task.ts";
import { openTaskService } from "#platform/tasks/task-service.testing.ts";
import { defaultTaskTimings } from "#platform/tasks/timings.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";
import { text, uuid } from "#platform/writes/columns.ts";
import { table } from "#platform/writes/table.ts";
import { benchLog } from "./log.ts";

const effects = table<{ readonly id: string; readonly text: string }>("effects", { id: uuid, text });

export type Notes = {
  /** Enqueues tasks, all in one transaction, as a command would. */
  enqueue(count: number): Promise<readonly string[]>;
  /** Works until the answer is called. */
  work(started: (id: string) => void): Promise<() => Promise<void>>;
};

/** A service with one task, which inserts its id into `effects`. */
export function openNotes(database: Database, broker?: TaskBroker): Notes {
  let onStart: (id: string) => void = () => {};
  const note = task(NoteSchema, {
    write(tx, { text: what }, { commandId }) {
      onStart(commandId);
      tx.insert(effects, { id: commandId, text: what });
    },
  });
  const service = openTaskService({
    database,
    tasks: [note],
    offersTasks: broker !== undefined,
    logger: benchLog(),
    metrics: new Metrics(),
    timings: { ...defaultEventTimings, ...defaultTaskTimings },
  });
  return {
    async enqueue(count) {
      let ids: string[] = [];
      const outcome = await service.write((tx) => {
        ids = Array.from({ length: count }, () => tx.enqueue(NoteSchema, { text: "a note" }));
      });
      if (outcome.kind === "failed") throw outcome.error;
      return ids;
    },
    async work(started) {
      onStart = started;
      await service.begin(broker);
      return () => service.stop();
    },
  };
}
