import { clone, getOption, setExtension } from "@bufbuild/protobuf";
import { DescriptorProtoSchema, durationFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { type Task as TaskOption, task as taskOption } from "#contracts/polis/options/v1/options_pb.ts";
import { NoteSchema, ScanSchema, UrgentNoteSchema } from "#contracts/polis/tasktest/v1/tasktest_pb.ts";
import { task } from "#platform/tasks/define-task.ts";
import { ownersOfQueues, taskId, tasksOf } from "#platform/tasks/task-types.ts";

test("what a contract leaves out has its default, and a queue may bear its service's name", () => {
  expect(tasksOf([UrgentNoteSchema], "shop").get(UrgentNoteSchema.typeName)).toMatchObject({
    queue: "test.notes",
    attempts: 5,
    pausesMs: [1_000, 10_000, 60_000, 600_000],
    timeLimitMs: 30_000,
    priority: 10,
    concurrency: undefined,
    concurrencyKeyOf: undefined,
    keepMs: 7 * 24 * 3_600_000,
  });
  expect(tasksOf([ScanSchema], "shop").get(ScanSchema.typeName)).toMatchObject({ concurrency: 2, keepMs: 1_000 });
});

test("what is no task is refused, and one that is named twice", () => {
  const plain = { ...NoteSchema, proto: { ...NoteSchema.proto, options: undefined } };
  expect(() => tasksOf([plain as never], "shop")).toThrow(/option \(polis.options.v1.task\) is missing/);
  expect(() => tasksOf([NoteSchema, ScanSchema, NoteSchema], "shop")).toThrow("shop names the task polis.tasktest.v1.Note twice");
});

/** A note whose contract says this beside. */
const noteWith = (said: Partial<TaskOption>) => {
  const proto = clone(DescriptorProtoSchema, NoteSchema.proto);
  setExtension(proto.options!, taskOption, { ...getOption(NoteSchema, taskOption), ...said });
  return { ...NoteSchema, proto } as typeof NoteSchema;
};
const DAY = 24 * 3_600_000;

test.each<[string, Partial<TaskOption>, string]>([
  ["a queue in capitals", { queue: "Notes" }, "`queue` must be words of a-z and 0-9"],
  ["the queue of dead letters", { queue: "dead-letters" }, "`queue` must not be dead-letters or none"],
  ["a queue that couldn't be chosen by its name", { queue: "none" }, "`queue` must not be dead-letters or none"],
  ["a priority's queue", { queue: "test.notes.p10" }, "`queue` must not be dead-letters or none, nor end as queues of priorities do"],
  ["too many attempts", { attempts: 1_001 }, "`attempts` must be 1000 at the most"],
  ["a negative pause", { pauses: [durationFromMs(1), durationFromMs(-3_000)] }, "none of `pauses` may be negative"],
  ["no time", { timeLimit: durationFromMs(0) }, "`time_limit` must be longer than 0, and 24 days at the most"],
  [
    "a time limit past what a timer takes",
    { timeLimit: durationFromMs(25 * DAY) },
    "`time_limit` must be longer than 0, and 24 days at the most",
  ],
  ["too high a priority", { priority: 1_001 }, "`priority` must be from -1000 to 1000"],
  ["too low a priority", { priority: -1_001 }, "`priority` must be from -1000 to 1000"],
  ["keeping for less than nothing", { keep: durationFromMs(-1) }, "`keep` must be from 0 to 7 days"],
  ["keeping for longer than one that is canceled", { keep: durationFromMs(8 * DAY) }, "`keep` must be from 0 to 7 days"],
])("%s is refused by its field and rule", (_, said, rule) => {
  expect(() => tasksOf([noteWith(said)], "shop")).toThrow(`polis.tasktest.v1.Note: ${rule}`);
});

test("what is at its bounds is taken", () => {
  const said = {
    attempts: 1_000,
    pauses: [durationFromMs(0)],
    timeLimit: durationFromMs(24 * DAY),
    priority: -1_000,
    keep: durationFromMs(0),
  };
  expect(tasksOf([noteWith(said)], "shop").get(NoteSchema.typeName)).toMatchObject({
    attempts: 1_000,
    pausesMs: [0],
    timeLimitMs: 24 * DAY,
    priority: -1_000,
    keepMs: 0,
  });
});

test("a concurrency key that is no field of the task is named, with the option that says it", () => {
  const proto = clone(DescriptorProtoSchema, NoteSchema.proto);
  setExtension(proto.options!, taskOption, { ...getOption(NoteSchema, taskOption), concurrencyKey: "nope" });
  expect(() => tasksOf([{ ...NoteSchema, proto } as never], "shop")).toThrow(
    "polis.tasktest.v1.Note: `concurrency_key`: `nope` is no field of polis.tasktest.v1.Note",
  );
});

test("a queue belongs to one service", () => {
  const tasks = [task(NoteSchema, {})];
  expect(
    ownersOfQueues([
      { name: "a", tasks },
      { name: "b", tasks: [task(ScanSchema, {})] },
    ]),
  ).toEqual(
    new Map([
      ["test.notes", "a"],
      ["test.scans", "b"],
    ]),
  );
  expect(() =>
    ownersOfQueues([
      { name: "a", tasks },
      { name: "b", tasks: [task(UrgentNoteSchema, {})] },
    ]),
  ).toThrow(/the queue test.notes is a's/);
});

test("a key names one task of its type", () => {
  expect(taskId(NoteSchema, "k")).toBe(taskId(NoteSchema, "k"));
  expect(new Set([taskId(NoteSchema, "k"), taskId(UrgentNoteSchema, "k"), taskId(NoteSchema, "l")]).size).toBe(3);
});
