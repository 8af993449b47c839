import { randomUUID } from "node:crypto";
import { beforeEach, expect, onTestFinished, test, vi } from "vitest";
import { NoteSchema, ReportSchema, UrgentNoteSchema } from "#contracts/polis/tasktest/v1/tasktest_pb.ts";
import { testLog } from "#platform/postgres/database.testing.ts";
import type { Answer, TaskBroker } from "#platform/tasks/broker.ts";
import { enterWorker } from "#platform/tasks/claims.ts";
import { task } from "#platform/tasks/define-task.ts";
import { queuesOf, type TaskQueue } from "#platform/tasks/task-queue.ts";
import { brokerSource } from "#platform/tasks/task-source.ts";
import { type TaskOptions, tasksOf } from "#platform/tasks/task-types.ts";
import { tasksDatabase, testProcess, testTaskTimings } from "#platform/tasks/tasks.testing.ts";

// What a worker takes, beside a broker that brings what the test has it bring. That a real one is like that, rabbit-broker.test.ts shows.
const database = await tasksDatabase();
beforeEach(() => database.query({ text: "TRUNCATE tasks, task_workers" }));

const tasks = [NoteSchema, UrgentNoteSchema].map((schema) => task(schema, { write() {} }));
const reports = task(ReportSchema, { prepare: async () => undefined, write() {} });
const queues = (all: typeof tasks): TaskQueue[] => {
  const types = tasksOf(
    all.map(({ schema }) => schema),
    "notes",
  );
  return queuesOf(all.map((each) => ({ task: each, options: types.get(each.schema.typeName) as TaskOptions })));
};
const [notes] = queues(tasks) as [TaskQueue];

/** Marked as offered, as where a broker is open. */
const enqueuing = () =>
  testProcess({ database, tasks, engine: { name: "offering", isAway: false, open: () => Promise.reject(new Error("not begun")) } });
const enqueued = async (schema: typeof NoteSchema | typeof UrgentNoteSchema, count: number): Promise<string[]> => {
  const ids: string[] = [];
  await enqueuing().write((tx) => {
    for (let n = 0; n < count; n += 1) ids.push(tx.enqueue(schema, { text: `${n}` }));
  });
  return ids;
};

const GRACE_MS = 150;

async function openSource({ taskPollMs = 60_000 } = {}) {
  let backlog: readonly number[] = [0, 0];
  let room = 0;
  const offered: string[] = [];
  let take: (ids: readonly string[], priority: number) => Promise<Answer> = () => Promise.reject(new Error("nothing is delivered"));
  const broker: TaskBroker = {
    get room() {
      return room;
    },
    offer: (offers) => void offered.push(...offers.map(({ id }) => id)),
    ensureQueues: async () => {},
    deliver(_queue, _messagesAtOnce, brought) {
      take = brought;
      return { backlog: async () => backlog, stop: async () => {} };
    },
    close: async () => {},
  };
  const source = brokerSource({
    database,
    queue: notes.queue,
    broker,
    timings: { ...testTaskTimings, taskPollMs, offerGraceMs: GRACE_MS, offerLagMs: 600_000 },
    logger: testLog,
    atOnce: 512,
    wake() {},
  });
  const worker = randomUUID();
  await enterWorker(database, worker, 600_000);
  return {
    /** Of the priorities 10 and 0. */
    waiting(...counts: readonly [number, number]) {
      backlog = counts;
    },
    /** The broker takes so many. */
    takes(count: number) {
      room = count;
    },
    offered,
    bring: (priority: number, ...ids: readonly string[]) => take(ids, priority),
    take: async (room: number) => (await source.take(worker, room)).tasks.map(({ id }) => id),
    stop: () => source.stop(),
  };
}
const graceOver = async () => {
  const endMs = performance.now() + GRACE_MS + 5;
  await vi.waitFor(() => expect(performance.now()).toBeGreaterThan(endMs), { interval: 5 });
};

test("of what waits here, what is urgent is taken first, and what came first before the rest", async () => {
  const [low, high] = [await enqueued(NoteSchema, 4), await enqueued(UrgentNoteSchema, 2)];
  const source = await openSource();
  await source.take(1);
  void source.bring(0, ...low.slice(0, 3));
  void source.bring(0, ...low.slice(3));
  void source.bring(10, ...high);
  expect(await source.take(1)).toEqual(high.slice(0, 1));
  expect(await source.take(3)).toEqual([...high.slice(1), ...low.slice(0, 2)]);
  expect(await source.take(3)).toEqual(low.slice(2));
});

test("a message is answered once all that it brought is taken, and what isn't taken when the source stops is to be brought again", async () => {
  const ids = await enqueued(NoteSchema, 5);
  const source = await openSource();
  await source.take(1);
  const answers: string[] = [];
  for (const some of [ids.slice(0, 3), ids.slice(3)]) source.bring(0, ...some).then((answer) => answers.push(answer));
  await source.take(2);
  expect(answers).toEqual([]);
  await source.take(2);
  expect(answers).toEqual(["taken"]);
  await source.stop();
  expect(answers).toEqual(["taken", "again"]);
  expect(await source.bring(0, randomUUID())).toBe("again");
});

test("what the broker has is left to it for a while, and taken where it brings none of it", async () => {
  const ids = await enqueued(NoteSchema, 3);
  const source = await openSource();
  source.waiting(0, 3);
  await graceOver();
  expect([await source.take(9), await source.take(9)]).toEqual([[], []]);
  await graceOver();
  expect((await source.take(9)).toSorted()).toEqual(ids.toSorted());
});

test("a broker that has brought something is waited for anew", async () => {
  const [first = "", ...others] = await enqueued(NoteSchema, 3);
  const source = await openSource();
  source.waiting(0, 3);
  expect(await source.take(9)).toEqual([]);
  await graceOver();
  void source.bring(0, first);
  expect(await source.take(9)).toEqual([first]);
  expect(await source.take(9)).toEqual([]);
  await graceOver();
  expect((await source.take(9)).toSorted()).toEqual(others.toSorted());
});

test("a broker isn't waited for in vain while what it has brought waits here for room", async () => {
  const [first = "", ...others] = await enqueued(NoteSchema, 3);
  const source = await openSource({ taskPollMs: 0 });
  source.waiting(0, 2);
  void source.bring(0, first);
  expect(await source.take(9)).toEqual([]);
  await graceOver();
  expect(await source.take(9)).toEqual([]);
  await source.stop();
  expect(await source.take(9)).toEqual([]);
  await graceOver();
  expect((await source.take(9)).toSorted()).toEqual([first, ...others].toSorted());
});

test("what comes due is offered as far as the broker takes it, and else taken from the table", async () => {
  const own = testProcess({ database, tasks });
  const ids: string[] = [];
  await own.write((tx) => {
    for (let n = 0; n < 5; n += 1) ids.push(tx.enqueue(NoteSchema, { text: `${n}` }));
  });
  const source = await openSource();
  source.waiting(0, 9);
  source.takes(2);
  expect(await source.take(9)).toEqual([]);
  expect(source.offered).toHaveLength(2);
  source.takes(0);
  expect([...source.offered, ...(await source.take(9))].toSorted()).toEqual(ids.toSorted());
});

test("what waits here for room for ten minutes is answered, and taken from the table", async () => {
  vi.useFakeTimers({ toFake: ["performance"] });
  onTestFinished(() => void vi.useRealTimers());
  const [id = ""] = await enqueued(NoteSchema, 1);
  const source = await openSource({ taskPollMs: 0 });
  const answers: string[] = [];
  source.bring(0, id).then((answer) => answers.push(answer));
  source.waiting(0, 1);
  vi.advanceTimersByTime(10 * 60_000);
  expect([await source.take(9), answers]).toEqual([[], []]);
  vi.advanceTimersByTime(1);
  await source.take(9);
  expect(answers).toEqual(["taken"]);
  await vi.waitFor(async () => {
    vi.advanceTimersByTime(GRACE_MS + 1);
    expect(await source.take(9)).toEqual([id]);
  });
});

test("ids of what may take long travel alone, those of what is short together", () => {
  expect(queues([...tasks, reports]).map(({ queue }) => [queue.name, queue.idsAMessage])).toEqual([
    ["test.notes", 16],
    ["test.reports", 1],
  ]);
});
