import { randomUUID } from "node:crypto";
import { beforeEach, expect, test, vi } from "vitest";
import { NoteSchema, ScanSchema, StatementSchema } from "#contracts/polis/tasktest/v1/tasktest_pb.ts";
import { waitingForLocks } from "#platform/postgres/database.testing.ts";
import type { Database, Transaction } from "#platform/postgres/database.ts";
import { claimDue, enterWorker, type Queue, takeFromLost } from "#platform/tasks/claims.ts";
import { task } from "#platform/tasks/define-task.ts";
import { endTasksEarly, findTask, retryTasks } from "#platform/tasks/stored-tasks.ts";
import { cancelTasks, endTasks, heldTasks } from "#platform/tasks/task-statements.ts";
import { tasksDatabase, testProcess } from "#platform/tasks/tasks.testing.ts";

// What two do at once in the table, the one held in the midst of it.
const database = await tasksDatabase();
beforeEach(() => database.query({ text: "TRUNCATE tasks, task_workers" }));

const tasks = [NoteSchema, ScanSchema, StatementSchema].map((schema) => task(schema, { write() {} }));
const everything = { unoffered: true, offeredBefore: [Date.now() + 60_000] };
const queueOf = (name: string, { typeName }: { typeName: string }, concurrency?: number): Queue => ({
  name,
  types: [typeName],
  priorities: [0],
  concurrency,
  idsAMessage: 1,
});
const notes = queueOf("test.notes", NoteSchema);
const scans = queueOf("test.scans", ScanSchema, 2);
const statements = queueOf("test.statements", StatementSchema);

const state = async (id: string) => (await findTask(database, id))?.state;
async function worker(leaseMs = 60_000): Promise<string> {
  const id = randomUUID();
  await enterWorker(database, id, leaseMs);
  return id;
}

/** Whether somebody waits for a lock. */
const isSomebodyWaiting = async (): Promise<boolean> => (await waitingForLocks(database)) > 0;

/** Begins the second while what the first did isn't committed; that follows when the second has come to its end, or waits. */
async function overlapping<A, B>(first: (tx: Transaction) => Promise<A>, second: () => Promise<B>): Promise<[A, B]> {
  const { a, b } = await database.transaction(async (tx) => {
    const a = await first(tx);
    let hasEnded = false;
    const b = second().finally(() => {
      hasEnded = true;
    });
    await vi.waitFor(async () => expect(hasEnded || (await isSomebodyWaiting())).toBe(true), {
      timeout: 10_000,
      interval: 10,
    });
    return { a, b };
  });
  return [a, await b];
}

/** A claim's database, which is a transaction here. */
const within = (tx: Transaction): Database => ({
  ...database,
  query: (statement) => tx.query(statement),
  queryAll: (all) => Promise.all(all.map((statement) => tx.query(statement))),
});

const done = { state: "DONE", hasLane: true, pauseMs: 0, isPostponed: false, keepMs: 0, result: undefined, cause: undefined } as const;
test.each([
  ["done", (id: string) => endTasks([{ id, ...done }])],
  ["cancelled", (id: string) => cancelTasks([id])],
])("one that is enqueued while the last of its concurrency key is %s isn't left behind it", async (_, ending) => {
  const own = testProcess({ database, tasks });
  const last = await own.enqueue(StatementSchema, { account: "x", text: "last" });
  const [, next] = await overlapping(
    (tx) => Promise.all(ending(last).map((statement) => tx.query(statement))),
    () => own.enqueue(StatementSchema, { account: "x", text: "next" }),
  );
  expect(await state(next)).toBe("WAITING");
});

test("one that ends while it is about to be cancelled isn't counted as cancelled, nor one as retried that somebody else retries", async () => {
  const own = testProcess({ database, tasks });
  const ids = [await own.enqueue(NoteSchema, { text: "ends" }), await own.enqueue(NoteSchema, { text: "goes on" })];
  const [ending, other] = ids as [string, string];
  const [, cancelled] = await overlapping(
    (tx) => Promise.all(endTasks([{ id: ending, ...done, state: "FAILED" }]).map((statement) => tx.query(statement))),
    () => endTasksEarly(database, { type: NoteSchema.typeName }),
  );
  expect(cancelled).toBe(1);
  expect([await state(ending), await state(other)]).toEqual(["FAILED", "CANCELED"]);

  const [, retried] = await overlapping(
    (tx) => tx.query({ text: "UPDATE tasks SET state = 'WAITING', ended_at = NULL WHERE id = $1", values: [ending] }),
    () => retryTasks(database, { id: ending }),
  );
  expect(retried).toBe(0);
});

test("who cancels one whose end is being written waits for that, and holds up nothing of its concurrency key meanwhile", async () => {
  const own = testProcess({ database, tasks });
  const id = await own.enqueue(StatementSchema, { account: "x", text: "runs" });
  const [claimed] = await claimDue(database, await worker(), statements, 1, everything);
  const { cancelling } = await database.transaction(async (tx) => {
    await tx.query(heldTasks([{ id, claim: claimed?.claim ?? "" }]));
    const cancelling = endTasksEarly(database, { id });
    await vi.waitFor(async () => expect(await isSomebodyWaiting()).toBe(true), { timeout: 10_000, interval: 10 });
    const lanes = "SELECT FROM pg_locks JOIN pg_database ON oid = database WHERE datname = current_database() AND locktype = 'advisory'";
    expect((await tx.query({ text: lanes })).rowCount).toBe(0);
    await Promise.all(endTasks([{ id, ...done }]).map((statement) => tx.query(statement)));
    return { cancelling };
  });
  expect([await cancelling, await state(id)]).toEqual([0, "DONE"]);
});

test("one that has failed because its worker was lost holds up none of its concurrency key", async () => {
  const own = testProcess({ database, tasks });
  const [first, next, other] = [
    await own.enqueue(StatementSchema, { account: "x", text: "first" }),
    await own.enqueue(StatementSchema, { account: "x", text: "next" }),
    await own.enqueue(StatementSchema, { account: "x", text: "other" }),
  ];
  expect(await claimDue(database, await worker(0), statements, 10, everything)).toMatchObject([{ id: first }]);
  expect(await takeFromLost(database, new Map([[StatementSchema.typeName, 1]]))).toBe(1);
  expect([await state(first), await state(next), await state(other)]).toEqual(["FAILED", "WAITING", "BLOCKED"]);
});

test("two that take from a limited queue at once take no more together than it allows", async () => {
  const own = testProcess({ database, tasks });
  for (const text of ["1", "2", "3", "4"]) await own.enqueue(ScanSchema, { text });
  const [one, two] = [await worker(), await worker()];
  const taken = await overlapping(
    (tx) => claimDue(within(tx), one, scans, 2, everything),
    () => claimDue(database, two, scans, 2, everything),
  );
  expect(taken.map(({ length }) => length)).toEqual([2, 0]);
});

test("who is taken for dead while it takes tasks takes none", async () => {
  const id = await testProcess({ database, tasks }).enqueue(NoteSchema, { text: "a" });
  const late = await worker();
  const [, taken] = await overlapping(
    (tx) => tx.query({ text: "DELETE FROM task_workers WHERE id = $1", values: [late] }),
    () => claimDue(database, late, notes, 10, everything),
  );
  expect(taken).toEqual([]);
  expect(await findTask(database, id)).toMatchObject({ state: "WAITING", attempts: 0 });
});
