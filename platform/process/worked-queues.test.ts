import { describe, expect, test } from "vitest";
import { NoteSchema, ScanSchema } from "#contracts/polis/tasktest/v1/tasktest_pb.ts";
import { queueChoice } from "#platform/config/setting-types.ts";
import { SettingsError } from "#platform/config/settings.ts";
import { workedQueues } from "#platform/process/worked-queues.ts";
import { task } from "#platform/tasks/define-task.ts";

const queues = ["housekeeping.notes", "housekeeping.scans", "test.notes", "test.scans"];
const services = [
  { name: "notes", consumers: {}, tasks: { note: task(NoteSchema, {}) } },
  { name: "scans", consumers: {}, tasks: { scan: task(ScanSchema, {}) } },
];
const worked = (said: string | undefined) =>
  queues.filter(workedQueues(services, said === undefined ? undefined : queueChoice.parse(said)));

describe("POLIS_QUEUES", () => {
  test.each([
    [undefined, queues],
    ["none", []],
    ["test.notes, housekeeping.notes", ["housekeeping.notes", "test.notes"]],
    ["-test.scans,-housekeeping.scans", ["housekeeping.notes", "test.notes"]],
  ])("%s", (said, those) => {
    expect(worked(said)).toEqual(those);
  });

  test.each(["-", "test.notes,", "test.notes,-test.scans", "Test.Notes", "none,test.notes x"])("%s is refused", (said) => {
    expect(queueChoice.parse(said)).toBeUndefined();
  });

  test.each(["test.scans", "-test.scans,-test.notes", "none"])("%s is shown as it was said", (said) => {
    expect(queueChoice.show(queueChoice.parse(said) as never)).toBe(said);
  });

  test("a queue that there isn't is named, with those that there are", () => {
    expect(() => worked("-test.scan")).toThrow(
      new SettingsError([`POLIS_QUEUES: there is no queue test.scan; there are ${queues.join(", ")}`]),
    );
  });
});
