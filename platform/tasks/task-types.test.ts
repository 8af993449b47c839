import { clone, getOption, setExtension } from "@bufbuild/protobuf";
import { DescriptorProtoSchema, durationFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { task as taskOption } from "#contracts/polis/options/v1/options_pb.ts";
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

test("what is no task is refused, and one that is kept for longer than one that is canceled", () => {
  const plain = { ...NoteSchema, proto: { ...NoteSchema.proto, options: undefined } };
  expect(() => tasksOf([plain as never], "shop")).toThrow(/option \(polis.options.v1.task\) is missing/);
  const long = clone(DescriptorProtoSchema, NoteSchema.proto);
  setExtension(long.options!, taskOption, { ...getOption(NoteSchema, taskOption), keep: durationFromMs(8 * 24 * 3_600_000) });
  expect(() => tasksOf([{ ...NoteSchema, proto: long } as never], "shop")).toThrow("`keep` is longer than 7 days");
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
