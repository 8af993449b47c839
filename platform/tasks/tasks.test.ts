import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { QueryResultRow } from "pg";
import { beforeEach, describe, expect, test, vi } from "vitest";
import { NoteSchema, ReportSchema, ScanSchema, StatementSchema, UrgentNoteSchema } from "#contracts/polis/tasktest/v1/tasktest_pb.ts";
import type { Database, Statement } from "#platform/postgres/database.ts";
import { reject } from "#platform/rejection.ts";
import { CallError } from "#platform/rpc/call-error.ts";
import { forgetTasks, takeFromLost } from "#platform/tasks/claims.ts";
import { type Task, type TaskContext, task } from "#platform/tasks/define-task.ts";
import { endTasksEarly, findTask, listTasks, retryTasks, showTask } from "#platform/tasks/stored-tasks.ts";
import { taskId } from "#platform/tasks/task-types.ts";
import {
  freezable,
  freezingBefore,
  type TaskEngine,
  type TestProcess,
  taskEngines,
  tasksDatabase,
  testProcess,
  testTaskTimings,
} from "#platform/tasks/tasks.testing.ts";
import { bigint, text } from "#platform/writes/columns.ts";
import type { Tx } from "#platform/writes/definitions.ts";
import { table } from "#platform/writes/table.ts";

type Effect = { readonly id: string; readonly text: string; readonly seq: bigint };
const effects = table<Effect>("effects", { id: text, text, seq: bigint });

const database = await tasksDatabase();
await database.query({ text: "CREATE TABLE effects (id text PRIMARY KEY, text text NOT NULL, seq bigint NOT NULL)" });
beforeEach(() => database.query({ text: "TRUNCATE tasks, effects" }));

let written = 0n;
/** An effect that fails where it would happen twice: it is inserted under the task's id. */
const effect = (tx: Tx, id: string, what: string): void => tx.insert(effects, { id, text: what, seq: ++written });

const inOrder = async (): Promise<string[]> =>
  (await database.query<Effect>({ text: "SELECT * FROM effects ORDER BY seq" })).rows.map((row) => row.text);

const until = <T>(look: () => Promise<T> | T): Promise<T> => vi.waitFor(look, { timeout: 10_000, interval: 10 });
const state = async (id: string) => (await findTask(database, id))?.state;
const untilState = (id: string, wanted: string) => until(async () => expect(await state(id)).toBe(wanted));
const inAWhile = (ms: number) => timestampFromMs(Date.now() + ms);

/** What a test says of a note's fate, by its text. */
type Fate = (id: string, attempt: number) => unknown;
const fates = new Map<string, Fate>();
const attempts = new Map<string, number>();
const noteTask = task(NoteSchema, {
  write(tx, { text: what }, { commandId }) {
    const attempt = (attempts.get(commandId) ?? 0) + 1;
    attempts.set(commandId, attempt);
    effect(tx, commandId, what);
    return fates.get(what)?.(commandId, attempt) as string | undefined;
  },
});
const urgentTask = task(UrgentNoteSchema, {
  write: (tx, { text: what }, { commandId }) => effect(tx, commandId, what),
});

/** Reports wait, in `prepare`, for what a test does to them by their text. */
const making = new Map<string, (context: TaskContext) => Promise<unknown>>();
const reportTask = task(ReportSchema, {
  prepare: (report, context) => making.get(report.text)?.(context) ?? Promise.resolve("made"),
  write(tx, { text: what }, { commandId, prepared }) {
    effect(tx, commandId, what);
    return prepared as string;
  },
});

/** How many of a kind run at once, by a name. */
function gauge() {
  const now = new Map<string, number>();
  const most = new Map<string, number>();
  return {
    most,
    async during<T>(name: string, run: () => Promise<T>): Promise<T> {
      now.set(name, (now.get(name) ?? 0) + 1);
      most.set(name, Math.max(most.get(name) ?? 0, now.get(name) as number));
      try {
        return await run();
      } finally {
        now.set(name, (now.get(name) as number) - 1);
      }
    },
  };
}
let running = gauge();
beforeEach(() => {
  running = gauge();
  for (const map of [fates, attempts, making]) map.clear();
});
const moment = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

const statementTask = task(StatementSchema, {
  prepare: ({ account }) => running.during(account, () => moment(5)),
  write(tx, { text: what }, { commandId }) {
    const attempt = (attempts.get(commandId) ?? 0) + 1;
    attempts.set(commandId, attempt);
    effect(tx, commandId, what);
    fates.get(what)?.(commandId, attempt);
  },
});
const scanTask = task(ScanSchema, {
  prepare: () => running.during("scans", () => moment(10)),
  write: (tx, { text: what }, { commandId }) => effect(tx, commandId, what),
});

const all: readonly Task[] = [noteTask, urgentTask, reportTask, statementTask, scanTask];

const testsOn = (engine: TaskEngine) => (): void => {
  const process = (): TestProcess => testProcess({ database, engine, tasks: all });
  const begun = async (): Promise<TestProcess> => {
    const made = process();
    await made.begin();
    return made;
  };

  test("one is done once, with what it writes, and says how it ended", async () => {
    const own = await begun();
    fates.set("a", () => "as the shop wished");
    const id = await own.enqueue(NoteSchema, { text: "a" });
    await untilState(id, "DONE");
    expect(await findTask(database, id)).toMatchObject({
      attempts: 1,
      result: "as the shop wished",
      cause: undefined,
      queue: "test.notes",
    });
    expect(await inOrder()).toEqual(["a"]);
  });

  test("enqueued by what fails or says no, it never runs", async () => {
    const own = await begun();
    const failed = await own.write((tx) => {
      tx.enqueue(NoteSchema, { text: "of a fault" });
      throw new Error("afterwards");
    });
    expect(failed.kind).toBe("failed");
    await own.write((tx) => {
      tx.enqueue(NoteSchema, { text: "of a rejection" });
      return reject("no");
    });
    const last = await own.enqueue(NoteSchema, { text: "last" });
    await untilState(last, "DONE");
    expect(await inOrder()).toEqual(["last"]);
    expect(await listTasks(database, {}, 10)).toHaveLength(1);
  });

  test("under a key that is taken, by one that waits or has ended, nothing is enqueued: what is asked for twice runs once", async () => {
    const own = process();
    const first = await own.enqueue(NoteSchema, { text: "first" }, { key: "k" });
    const ids = await Promise.all(Array.from({ length: 20 }, (_, i) => own.enqueue(NoteSchema, { text: `${i}` }, { key: "k" })));
    expect(new Set([first, ...ids])).toEqual(new Set([taskId(NoteSchema, "k")]));
    await own.begin();
    await untilState(first, "DONE");
    await own.enqueue(NoteSchema, { text: "again" }, { key: "k" });
    await untilState(await own.enqueue(NoteSchema, { text: "other" }, { key: "l" }), "DONE");
    expect(await inOrder()).toEqual(["first", "other"]);
  });

  test("what the contract or the manifest doesn't know isn't enqueued, and nothing of its item is written", async () => {
    const own = testProcess({ database, engine, tasks: [noteTask] });
    await expect(own.enqueue(NoteSchema, { text: "x".repeat(1_001) })).rejects.toThrow(/breaks its contract/);
    await expect(own.enqueue(ReportSchema, { text: "x" })).rejects.toThrow(/isn't among the tasks that the manifest names/);
    await expect(own.enqueue(NoteSchema, { text: "x" }, { key: "k\0" })).rejects.toThrow(/key/);
    expect(await listTasks(database, {}, 10)).toEqual([]);
  });

  test("higher priorities go first, and else what came first", async () => {
    const own = process();
    await own.write((tx) => {
      for (const what of ["1", "2"]) tx.enqueue(NoteSchema, { text: what });
      for (const what of ["a", "b"]) tx.enqueue(UrgentNoteSchema, { text: what });
    });
    await own.begin();
    await until(async () => expect(await inOrder()).toEqual(["a", "b", "1", "2"]));
  });

  test("it is done by the processes that do the tasks of its queue, and by no other", async () => {
    const process = async (works: (queue: string) => boolean): Promise<TestProcess> => {
      const made = testProcess({ database, engine, tasks: all, works });
      await made.begin();
      return made;
    };
    const [notes, others] = [await process((queue) => queue === "test.notes"), await process((queue) => queue !== "test.notes")];
    const ids = await Promise.all(
      [notes, others, notes, others].flatMap((own, n) => [
        own.enqueue(NoteSchema, { text: `note ${n}` }, { runAt: timestampFromMs(Date.now() + 50 * n) }),
        own.enqueue(ReportSchema, { text: `report ${n}` }),
      ]),
    );
    for (const id of ids) await untilState(id, "DONE");
    const did = async (own: TestProcess) =>
      [...(await own.metrics.text()).matchAll(/^polis_task_tries_total\{.*queue="([^"]+)".* (\d+)$/gm)].map(([, ...found]) => found);
    expect([await did(notes), await did(others)]).toEqual([[["test.notes", "4"]], [["test.reports", "4"]]]);
  });

  test("what is due is told from what waits for its time", async () => {
    const own = process();
    const due = await own.enqueue(NoteSchema, { text: "due" });
    const later = await own.enqueue(NoteSchema, { text: "later" }, { runAt: inAWhile(60_000) });
    const failed = await own.enqueue(NoteSchema, { text: "failed" }, { runAt: inAWhile(60_000) });
    await database.query({ text: "UPDATE tasks SET state = 'FAILED', ended_at = now() WHERE id = $1", values: [failed] });
    for (const [wanted, id] of [
      ["WAITING", due],
      ["DELAYED", later],
      ["FAILED", failed],
    ] as const)
      expect(await listTasks(database, { state: wanted }, 10)).toMatchObject([{ id, state: wanted }]);
  });

  test("it isn't done before its time, and soon after", async () => {
    const own = await begun();
    const at = Date.now() + 400;
    const id = await own.enqueue(NoteSchema, { text: "later" }, { runAt: timestampFromMs(at) });
    await untilState(await own.enqueue(NoteSchema, { text: "now" }), "DONE");
    expect(await state(id)).toBe("DELAYED");
    await untilState(id, "DONE");
    const done = await findTask(database, id);
    expect(Number(done?.startedAt)).toBeGreaterThanOrEqual(at);
    expect(await inOrder()).toEqual(["now", "later"]);
  });

  test("one that fails is tried as often as its contract says, holds up no other, and can be found, read and tried again", async () => {
    const own = await begun();
    fates.set("poison", () => {
      throw new Error("it is poison");
    });
    const poison = await own.enqueue(NoteSchema, { text: "poison", recipient: "Ann" });
    const others = await Promise.all(Array.from({ length: 50 }, (_, i) => own.enqueue(NoteSchema, { text: `${i}` })));
    await untilState(poison, "FAILED");
    for (const id of others) await untilState(id, "DONE");
    expect(attempts.get(poison)).toBe(3);
    expect(await listTasks(database, { state: "FAILED" }, 10)).toMatchObject([{ id: poison, attempts: 3, cause: "Error: it is poison" }]);
    const shown = await showTask(database, poison, [NoteSchema]);
    expect(shown?.task).toMatchObject({ text: "poison", recipient: expect.not.stringContaining("Ann") });
    fates.delete("poison");
    expect(await retryTasks(database, { state: "FAILED" })).toBe(1);
    await untilState(poison, "DONE");
    expect((await inOrder()).filter((what) => what === "poison")).toEqual(["poison"]);
  });

  test("what succeeds at a further try keeps nothing of the one before", async () => {
    const own = await begun();
    fates.set("second", (_, attempt) => {
      if (attempt === 1) throw new Error("not yet");
    });
    const id = await own.enqueue(NoteSchema, { text: "second" });
    await untilState(id, "DONE");
    expect(await findTask(database, id)).toMatchObject({ attempts: 2 });
    expect(await inOrder()).toEqual(["second"]);
  });

  test("a rejection ends it for good, and takes back what it wrote", async () => {
    const own = await begun();
    fates.set("no", () => reject("no_such_customer", "Nobody has this address."));
    const id = await own.enqueue(NoteSchema, { text: "no" });
    await untilState(id, "FAILED");
    expect(await findTask(database, id)).toMatchObject({ attempts: 1, cause: "no_such_customer: Nobody has this address." });
    expect(await inOrder()).toEqual([]);
  });

  test("what can't be read fails, and what the database refuses, each alone", async () => {
    const own = process();
    const ids = await Promise.all(["undecodable", "invalid", "a", "b"].map((what) => own.enqueue(NoteSchema, { text: what })));
    const [undecodable, invalid, a, b] = ids as [string, string, string, string];
    await database.query({ text: "UPDATE tasks SET payload = '\\xff' WHERE id = $1", values: [undecodable] });
    const long = Buffer.concat([Buffer.from([0x0a, 0xe9, 0x07]), Buffer.from("x".repeat(1_001))]);
    await database.query({ text: "UPDATE tasks SET payload = $2 WHERE id = $1", values: [invalid, long] });
    await database.query({ text: "INSERT INTO effects VALUES ($1, 'there', 0)", values: [b] });
    await own.begin();
    await untilState(a, "DONE");
    for (const id of [undecodable, invalid, b]) await untilState(id, "FAILED");
    expect((await findTask(database, invalid))?.cause).toMatch(/breaks its contract/);
  });

  test("while a neighbour is away it waits without end, and no try is counted", async () => {
    const own = await begun();
    let isAway = true;
    let tries = 0;
    making.set("r", async () => {
      tries += 1;
      if (isAway) throw new CallError("UNAVAILABLE", "unavailable", "The neighbour is away.");
      return "made";
    });
    const id = await own.enqueue(ReportSchema, { text: "r" });
    await until(() => expect(tries).toBeGreaterThan(4));
    expect(await findTask(database, id)).toMatchObject({ cause: expect.stringContaining("away") });
    isAway = false;
    await untilState(id, "DONE");
    expect(await findTask(database, id)).toMatchObject({ attempts: 1 });
  });

  test("the longer a neighbour is away, the longer it waits from try to try", async () => {
    const own = testProcess({ database, engine, tasks: all, timings: { longestPostponementMs: 60_000 } });
    await own.begin();
    let isAway = true;
    making.set("r", async () => {
      if (isAway) throw new CallError("UNAVAILABLE", "unavailable", "The neighbour is away.");
      return "made";
    });
    const id = await own.enqueue(ReportSchema, { text: "r" });
    await until(async () =>
      expect(Number((await findTask(database, id))?.runAt)).toBeGreaterThan(Date.now() + 20 * testTaskTimings.firstPauseMs),
    );
    isAway = false;
    await untilState(id, "DONE");
  });

  test("what takes longer than its contract allows is told so, and counts as failed", async () => {
    const own = await begun();
    const told: unknown[] = [];
    making.set("slow", ({ signal }) => {
      signal.addEventListener("abort", () => told.push(signal.reason));
      return new Promise(() => {});
    });
    const id = await own.enqueue(ReportSchema, { text: "slow" });
    await untilState(id, "FAILED");
    expect(told).toHaveLength(2);
    expect(await findTask(database, id)).toMatchObject({ attempts: 2, cause: expect.stringContaining("longer than 400 ms") });
  });

  test("its progress can be seen while it runs", async () => {
    const own = await begun();
    const { promise, resolve } = Promise.withResolvers<string>();
    making.set("long", ({ progress }) => {
      progress(0.25);
      return promise;
    });
    const id = await own.enqueue(ReportSchema, { text: "long" });
    await until(async () => expect(await findTask(database, id)).toMatchObject({ state: "RUNNING", progress: 0.25 }));
    resolve("42 pages");
    await untilState(id, "DONE");
    expect(await findTask(database, id)).toMatchObject({ result: "42 pages", progress: 1 });
  });

  test("cancelled while it waits, it never runs; cancelled while it runs, it is told, and nothing of it is written", async () => {
    const own = await begun();
    const waiting = await own.enqueue(NoteSchema, { text: "waits" }, { runAt: inAWhile(300) });
    const { promise: told, resolve: tell } = Promise.withResolvers<void>();
    const { promise: begun_, resolve: isBegun } = Promise.withResolvers<void>();
    making.set("runs", ({ signal }) => {
      isBegun();
      signal.addEventListener("abort", () => tell());
      return new Promise(() => {});
    });
    const runs = await own.enqueue(ReportSchema, { text: "runs" });
    await begun_;
    await own.write((tx) => {
      tx.cancelTask(waiting);
      tx.cancelTask(runs);
    });
    expect([await state(waiting), await state(runs)]).toEqual(["CANCELED", "CANCELED"]);
    await told;
    // What ignores that it was told, and comes to its end all the same, is refused.
    making.set("deaf", async () => {
      await endTasksEarly(database, { type: ReportSchema.typeName });
      return "made";
    });
    const deaf = await own.enqueue(ReportSchema, { text: "deaf" });
    await untilState(deaf, "CANCELED");
    await untilState(await own.enqueue(NoteSchema, { text: "last" }, { runAt: inAWhile(400) }), "DONE");
    expect(await inOrder()).toEqual(["last"]);
  });

  test("of one concurrency key one runs at a time, in the order of their time, and those of others beside it", async () => {
    const [one, two] = [await begun(), await begun()];
    for (let i = 0; i < 10; i += 1)
      for (const account of ["x", "y", "z"]) await (i % 2 === 0 ? one : two).enqueue(StatementSchema, { account, text: `${account}${i}` });
    await until(async () => expect(await inOrder()).toHaveLength(30));
    expect([...running.most.values()]).toEqual([1, 1, 1]);
    const order = await inOrder();
    for (const account of ["x", "y", "z"])
      expect(order.filter((what) => what.startsWith(account))).toEqual(Array.from({ length: 10 }, (_, i) => `${account}${i}`));
  });

  test("one that pauses, is delayed, fails or is cancelled holds up none of its concurrency key", async () => {
    const own = await begun();
    const later = await own.enqueue(StatementSchema, { account: "x", text: "later" }, { runAt: inAWhile(60_000) });
    fates.set("fails", () => {
      throw new Error("it fails");
    });
    const fails = await own.enqueue(StatementSchema, { account: "x", text: "fails" });
    const next = await own.enqueue(StatementSchema, { account: "x", text: "next" });
    await untilState(next, "DONE");
    await untilState(fails, "FAILED");
    expect(await state(later)).toBe("DELAYED");
    const last = await own.enqueue(StatementSchema, { account: "x", text: "last" }, { runAt: inAWhile(120_000) });
    expect(await state(last)).toBe("BLOCKED");
    await endTasksEarly(database, { id: later });
    expect([await state(later), await state(last)]).toEqual(["CANCELED", "DELAYED"]);
  });

  test("no more of a queue run at once than its contract allows, over all processes", async () => {
    const own = await Promise.all([begun(), begun(), begun()]);
    await Promise.all(Array.from({ length: 30 }, (_, i) => own[i % 3]?.enqueue(ScanSchema, { text: `${i}` })));
    await until(async () => expect(await inOrder()).toHaveLength(30));
    expect(running.most.get("scans")).toBe(2);
  });

  test("what ended long enough ago is forgotten, and its key can be taken again; what failed stays", async () => {
    const own = await begun();
    const first = await own.enqueue(ScanSchema, { text: "first" }, { key: "k" });
    await untilState(first, "DONE");
    expect(await forgetTasks(database, 10)).toBe(0);
    await until(async () => expect(await forgetTasks(database, 10)).toBe(1));
    expect(await findTask(database, first)).toBeUndefined();
    await database.query({ text: "TRUNCATE effects" });
    await untilState(await own.enqueue(ScanSchema, { text: "second" }, { key: "k" }), "DONE");
    expect(await inOrder()).toEqual(["second"]);
  });

  test("the key of one that was cancelled stays taken for seven days, however short others of its type are kept", async () => {
    const own = process();
    const id = await own.enqueue(ScanSchema, { text: "first" }, { key: "k" });
    await endTasksEarly(database, { id });
    await database.query({ text: "UPDATE tasks SET forget_at = forget_at - interval '7 days' + interval '1 minute'" });
    expect(await forgetTasks(database, 10)).toBe(0);
    await own.enqueue(ScanSchema, { text: "second" }, { key: "k" });
    expect(await state(id)).toBe("CANCELED");
    await database.query({ text: "UPDATE tasks SET forget_at = forget_at - interval '1 minute'" });
    expect(await forgetTasks(database, 10)).toBe(1);
  });

  test("a thousand are done once each by three processes", async () => {
    const own = await Promise.all([begun(), begun(), begun()]);
    const outcome = await own[0]?.write((tx) => {
      for (let i = 0; i < 1_000; i += 1) tx.enqueue(NoteSchema, { text: `${i}` });
    });
    expect(outcome?.kind).toBe("applied");
    await until(async () => expect(await inOrder()).toHaveLength(1_000));
    expect(new Set(await inOrder()).size).toBe(1_000);
    expect(attempts.size).toBe(1_000);
    expect(await listTasks(database, { state: "DONE" }, 2_000)).toHaveLength(1_000);
  });

  test("a process that stops gives back what it hasn't ended, uncounted, and another does it", async () => {
    const [one, two] = [await begun(), process()];
    let runs = 0;
    making.set("long", () => {
      runs += 1;
      return runs === 1 ? new Promise(() => {}) : Promise.resolve("made");
    });
    const id = await one.enqueue(ReportSchema, { text: "long" });
    await until(() => expect(runs).toBe(1));
    await one.stop();
    expect(await findTask(database, id)).toMatchObject({ state: "WAITING", attempts: 0 });
    await two.begin();
    await untilState(id, "DONE");
    expect(await findTask(database, id)).toMatchObject({ attempts: 1 });
  });

  test("what a process had that was frozen or killed is done by another, and what the first still writes of it is refused", async () => {
    const ice = freezable(database);
    const first = testProcess({ database, engine, ice, tasks: all });
    await first.begin();
    const { promise, resolve } = Promise.withResolvers<string>();
    let runs = 0;
    making.set("long", () => {
      runs += 1;
      return runs === 1 ? promise : Promise.resolve("by the second");
    });
    const id = await first.enqueue(ReportSchema, { text: "long" });
    await until(() => expect(runs).toBe(1));
    ice.freeze();
    resolve("by the first");
    await begun();
    await untilState(id, "DONE");
    ice.thaw();
    await untilState(await first.enqueue(NoteSchema, { text: "goes on" }), "DONE");
    expect(await findTask(database, id)).toMatchObject({ attempts: 2, result: "by the second" });
    expect(await inOrder()).toEqual(["long", "goes on"]);
  });

  test("one whose end is being written is taken from its worker by nobody", async () => {
    const ice = freezingBefore(database, "tasks end");
    const own = testProcess({ database, engine, ice, tasks: all });
    await own.begin();
    const id = await own.enqueue(NoteSchema, { text: "ends" });
    await ice.frozen;
    await database.query({ text: "DELETE FROM task_workers" });
    expect(await takeFromLost(database, new Map())).toBe(0);
    expect(await findTask(database, id)).toMatchObject({ state: "RUNNING", attempts: 1 });
    ice.thaw();
    await untilState(id, "DONE");
    expect(attempts.get(id)).toBe(1);
  });

  test("one that kills whoever does it has failed in the end", async () => {
    let runs = 0;
    making.set("deadly", () => {
      runs += 1;
      return new Promise(() => {});
    });
    const id = await process().enqueue(ReportSchema, { text: "deadly" });
    for (const victim of [1, 2]) {
      const ice = freezable(database);
      await testProcess({ database, engine, ice, tasks: all }).begin();
      await until(() => expect(runs).toBe(victim));
      ice.freeze();
    }
    await begun();
    await untilState(id, "FAILED");
    expect(await findTask(database, id)).toMatchObject({ attempts: 2, cause: "Its worker was lost." });
    expect(runs).toBe(2);
  });

  test("after a crash of the server, which forgets who works, all is done once", async () => {
    const own = await begun();
    let runs = 0;
    making.set("long", () => {
      runs += 1;
      return runs === 1 ? new Promise(() => {}) : Promise.resolve("made");
    });
    const id = await own.enqueue(ReportSchema, { text: "long" });
    await until(() => expect(runs).toBe(1));
    await database.query({ text: "TRUNCATE task_workers" });
    await untilState(id, "DONE");
    expect(await inOrder()).toEqual(["long"]);
  });

  test("what a claim took whose answer was lost is given back, and done", async () => {
    let isLost = false;
    const losing: Database = {
      ...database,
      async query<R extends QueryResultRow>(statement: Statement) {
        const answer = await database.query<R>(statement);
        if (!statement.name?.startsWith("tasks claim") || isLost || answer.rowCount === 0) return answer;
        isLost = true;
        throw Object.assign(new Error("Connection terminated"), { code: "ECONNRESET" });
      },
    };
    const own = testProcess({ database: losing, engine, tasks: all });
    await own.begin();
    const id = await own.enqueue(NoteSchema, { text: "lost" });
    await untilState(id, "DONE");
    expect(isLost).toBe(true);
    expect(await findTask(database, id)).toMatchObject({ attempts: 1 });
  });

  test("a worker's heartbeat takes nothing for cancelled that was claimed while it was under way", async () => {
    const slow: Database = {
      ...database,
      async queryAll(statements) {
        const answers = await database.queryAll(statements);
        if (statements[0]?.name === "worker renew") await moment(50);
        return answers;
      },
    };
    let runs = 0;
    const own = testProcess({ database: slow, engine, tasks: all, timings: { workerHeartbeatMs: 1 } });
    await own.begin();
    for (let i = 0; i < 20; i += 1) {
      making.set(`${i}`, () => {
        runs += 1;
        return moment(60);
      });
      await own.enqueue(ReportSchema, { text: `${i}` });
    }
    await until(async () => expect(await inOrder()).toHaveLength(20));
    expect(runs).toBe(20);
  });

  test("a process stops though its database is away, and what it had is done later", async () => {
    let isAway = false;
    const refused = async (): Promise<never> => {
      throw Object.assign(new Error("connect ECONNREFUSED"), { code: "ECONNREFUSED" });
    };
    const away: Database = {
      ...database,
      query: (statement) => (isAway ? refused() : database.query(statement)),
      queryAll: (statements) => (isAway ? refused() : database.queryAll(statements)),
      transaction: (run, options) => (isAway ? refused() : database.transaction(run, options)),
    };
    const first = testProcess({ database: away, engine, tasks: all });
    await first.begin();
    const { promise, resolve } = Promise.withResolvers<string>();
    let runs = 0;
    making.set("long", () => {
      runs += 1;
      return runs === 1 ? promise : Promise.resolve("made");
    });
    const id = await first.enqueue(ReportSchema, { text: "long" });
    await until(() => expect(runs).toBe(1));
    isAway = true;
    resolve("too late");
    await first.stop();
    isAway = false;
    await begun();
    await untilState(id, "DONE");
    expect(await findTask(database, id)).toMatchObject({ result: "made", attempts: 2 });
  });

  test("what a process still takes as it stops, it doesn't begin, but gives back", async () => {
    const { promise: thawed, resolve: thaw } = Promise.withResolvers<void>();
    let asked = 0;
    const held: Database = {
      ...database,
      async query(statement) {
        if (statement.name?.startsWith("tasks claim") && asked > 0) {
          asked += 1;
          await thawed;
        }
        return database.query(statement);
      },
    };
    const own = testProcess({ database, ice: { database: held, thaw }, engine, tasks: all });
    await own.begin();
    const begun = vi.fn(async () => undefined);
    making.set("late", begun);
    asked = 1;
    const id = await process().enqueue(ReportSchema, { text: "late" });
    await until(() => expect(asked).toBeGreaterThan(1));
    const stopping = own.stop();
    thaw();
    await stopping;
    expect(begun).not.toHaveBeenCalled();
    expect(await findTask(database, id)).toMatchObject({ state: "WAITING", attempts: 0 });
  });

  test("what can't be stored of one, or fails it in a way that nobody foresaw, holds up none beside it", async () => {
    const own = process();
    const missing = table<Effect>("no_such_table", { id: text, text, seq: bigint });
    fates.set("nul", () => reject("no", "bad \0 name"));
    const lost = task(UrgentNoteSchema, {
      write: (tx, note, { commandId }) => tx.insert(missing, { id: commandId, text: note.text, seq: 0n }),
    });
    const other = testProcess({ database, engine, tasks: all.map((each) => (each === urgentTask ? lost : each)) });
    const nul = await own.enqueue(NoteSchema, { text: "nul" });
    const faulty = await own.enqueue(UrgentNoteSchema, { text: "faulty" });
    const good = await Promise.all(Array.from({ length: 20 }, (_, i) => own.enqueue(NoteSchema, { text: `${i}` })));
    await other.begin();
    for (const id of good) await untilState(id, "DONE");
    await untilState(nul, "FAILED");
    await until(async () => expect((await findTask(database, faulty))?.cause).toMatch(/no_such_table/));
  });

  test("cancelled and retried while it runs, what the first try still writes is refused, though its worker is the same", async () => {
    const own = await begun();
    const { promise, resolve } = Promise.withResolvers<string>();
    let runs = 0;
    making.set("twice", () => {
      runs += 1;
      return runs === 1 ? promise : Promise.resolve("by the second");
    });
    const id = await own.enqueue(ReportSchema, { text: "twice" });
    await until(() => expect(runs).toBe(1));
    await endTasksEarly(database, { id });
    await retryTasks(database, { id });
    resolve("by the first");
    await untilState(id, "DONE");
    expect(await findTask(database, id)).toMatchObject({ result: "by the second" });
    expect(await inOrder()).toEqual(["twice"]);
  });

  test("what another release has filed under another queue or priority is done all the same, and its lanes with it", async () => {
    const own = await begun();
    const enqueuing = process();
    const note = await enqueuing.enqueue(NoteSchema, { text: "note" }, { runAt: inAWhile(200) });
    const statements: string[] = [];
    for (const what of ["1", "2", "3"])
      statements.push(await enqueuing.enqueue(StatementSchema, { account: "x", text: what }, { runAt: inAWhile(200) }));
    await database.query({ text: "UPDATE tasks SET priority = 77 WHERE id = $1", values: [note] });
    await database.query({ text: "UPDATE tasks SET queue = 'test.old' WHERE id = ANY($1::uuid[])", values: [statements] });
    await database.query({
      text: `INSERT INTO tasks (id, type, queue, priority, concurrency_key, state, offered, run_at, payload, traceparent, actor, causation_id)
             VALUES (gen_random_uuid(), 'another', 'test.old', 0, 'x', 'BLOCKED', false, now() + interval '1 h', '', '', '', '')`,
    });
    for (const id of [note, ...statements]) await untilState(id, "DONE");
    expect((await listTasks(database, { queue: "test.old" }, 10)).map(({ state: of }) => of)).toEqual(["DELAYED"]);
    await own.stop();
  });
};

for (const engine of taskEngines()) describe.skipIf(engine.isAway)(`tasks, ${engine.name}`, testsOn(engine));
