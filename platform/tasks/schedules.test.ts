import { beforeEach, expect, test, vi } from "vitest";
import { NoteSchema, ScanSchema } from "#contracts/polis/tasktest/v1/tasktest_pb.ts";
import { type Schedule, schedule } from "#platform/tasks/define-schedule.ts";
import { task } from "#platform/tasks/define-task.ts";
import { listTasks } from "#platform/tasks/stored-tasks.ts";
import { freezingBefore, tasksDatabase, testProcess } from "#platform/tasks/tasks.testing.ts";
import { loggedLines } from "#platform/telemetry/logged-lines.testing.ts";

const database = await tasksDatabase();
beforeEach(() => database.query({ text: "TRUNCATE tasks, task_schedules" }));

const START = Date.parse("2026-11-27T10:00:30Z");
const MINUTE = 60_000;

const done: string[] = [];
const noteTask = task(NoteSchema, { write: (_, { text }) => void done.push(text) });
beforeEach(() => {
  done.length = 0;
});

/** Processes that go by one clock, which stands still until it is set. */
async function processes(
  count: number,
  schedules: { readonly [name: string]: Schedule },
  more: Pick<Parameters<typeof testProcess>[0], "logger" | "works"> = {},
) {
  let nowMs = START;
  const made = Array.from({ length: count }, () => testProcess({ database, tasks: [noteTask], schedules, clock: () => nowMs, ...more }));
  for (const each of made) await each.begin();
  return {
    set: (ms: number) => {
      nowMs = ms;
    },
    stop: () => Promise.all(made.map((each) => each.stop())),
  };
}

const at = (options: Omit<Parameters<typeof schedule>[1], "data">) =>
  schedule(NoteSchema, { ...options, data: (time) => ({ text: time.toISOString() }) });
const until = <T>(look: () => Promise<T> | T): Promise<T> => vi.waitFor(look, { timeout: 10_000, interval: 10 });
const nextAt = async (name: string) =>
  (
    await database.query<{ at: string }>({
      text: "SELECT to_char(next_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') AS at FROM task_schedules WHERE name = $1",
      values: [name],
    })
  ).rows[0]?.at;

test("fires once for each time, over three processes", async () => {
  const { set } = await processes(3, { "t.often": at({ cron: "* * * * * *" }) });
  for (let second = 1; second <= 20; second += 1) {
    set(START + second * 1_000);
    await until(() => expect(done).toHaveLength(second));
  }
  expect(done.toSorted()).toEqual(Array.from({ length: 20 }, (_, i) => new Date(START + (i + 1) * 1_000).toISOString()));
  expect(await listTasks(database, {}, 100)).toHaveLength(20);
});

test("a time that has had its task gets no other, though the schedule is set back", async () => {
  const { set } = await processes(2, { "t.x": at({ cron: "* * * * *" }) });
  set(START + MINUTE);
  await until(() => expect(done).toHaveLength(1));
  await database.query({ text: "UPDATE task_schedules SET next_at = fired_at" });
  set(START + 2 * MINUTE);
  await until(async () => expect(await nextAt("t.x")).toBe("2026-11-27 10:03:00"));
  await database.query({ text: "UPDATE task_schedules SET next_at = fired_at" });
  await until(async () => expect(await nextAt("t.x")).toBe("2026-11-27 10:03:00"));
  set(START + 3 * MINUTE);
  await until(() => expect(done.at(-1)).toBe("2026-11-27T10:03:00.000Z"));
  expect(done).toEqual(["2026-11-27T10:01:00.000Z", "2026-11-27T10:02:00.000Z", "2026-11-27T10:03:00.000Z"]);
});

test("a time on which one process is about to act, others leave to it, and go on with theirs", async () => {
  const ice = freezingBefore(database, "schedules fired");
  const minutely = at({ cron: "* * * * *" });
  const clocks = { one: START, two: START };
  const one = testProcess({ database, ice, tasks: [noteTask], schedules: { "t.x": minutely }, clock: () => clocks.one });
  const two = testProcess({ database, tasks: [noteTask], schedules: { "t.x": minutely, "t.y": minutely }, clock: () => clocks.two });
  for (const each of [one, two]) await each.begin();
  clocks.one = START + MINUTE;
  await ice.frozen;
  clocks.two = START + MINUTE;
  await until(async () => expect(await nextAt("t.y")).toBe("2026-11-27 10:02:00"));
  expect(await nextAt("t.x")).toBe("2026-11-27 10:01:00");
  ice.thaw();
  await until(async () => expect(await nextAt("t.x")).toBe("2026-11-27 10:02:00"));
  expect((await listTasks(database, {}, 10)).map(({ key }) => key).toSorted()).toEqual([
    "schedule t.x 2026-11-27T10:01:00.000Z",
    "schedule t.y 2026-11-27T10:01:00.000Z",
  ]);
});

test("after a pause it fires once for all that was missed, for each, or not at all, as it says", async () => {
  const { set } = await processes(3, {
    "t.once": at({ cron: "*/5 * * * *" }),
    "t.all": at({ cron: "*/15 * * * *", missed: "all" }),
    "t.skip": at({ cron: "1 * * * *", missed: "skip" }),
  });
  set(START + 90 * MINUTE);
  await until(async () => expect(await nextAt("t.skip")).toBe("2026-11-27 12:01:00"));
  await until(async () => expect(await nextAt("t.all")).toBe("2026-11-27 11:45:00"));
  const expected = ["10:15:00", "10:30:00", "10:45:00", "11:00:00", "11:15:00", "11:30:00", "11:30:00"];
  await until(() => expect(done.toSorted()).toEqual(expected.map((time) => `2026-11-27T${time}.000Z`)));
  // On time it fires like any other.
  set(Date.parse("2026-11-27T12:01:10Z"));
  await until(() => expect(done).toContain("2026-11-27T12:01:00.000Z"));
});

test("one whose task the service hasn't stops the start, and is named", async () => {
  await expect(processes(1, { "t.bad": schedule(ScanSchema, { cron: "* * * * *" }) })).rejects.toThrow(
    "the schedule t.bad enqueues polis.tasktest.v1.Scan, which the manifest doesn't name among its tasks",
  );
});

test("one whose next task can't be made is told at the start, which goes on", async () => {
  const { log: logger, logged } = loggedLines("error");
  await processes(1, { "t.bad": schedule(NoteSchema, { cron: "0 0 1 1 *", data: () => ({ text: "x".repeat(2_000) }) }) }, { logger });
  expect(logged).toMatchObject([
    {
      msg: "a schedule can't make its task",
      schedule: "t.bad",
      at: "2027-01-01T00:00:00.000Z",
      err: { message: expect.stringContaining("polis.tasktest.v1.Note breaks its contract") },
    },
  ]);
});

test("fires in every process, also in those that don't do the tasks of its queue", async () => {
  const { set } = await processes(1, { "t.x": at({ cron: "* * * * *" }) }, { works: () => false });
  set(START + MINUTE);
  await until(async () => expect(await listTasks(database, { state: "WAITING" }, 10)).toHaveLength(1));
});

test("one whose task can't be made later on holds up no other", async () => {
  let length = 0;
  const { set } = await processes(1, {
    "t.bad": schedule(NoteSchema, { cron: "* * * * *", data: () => ({ text: "x".repeat(length) }) }),
    "t.good": at({ cron: "* * * * *" }),
  });
  length = 2_000;
  for (let minute = 1; minute <= 3; minute += 1) {
    set(START + minute * MINUTE);
    await until(() => expect(done).toHaveLength(minute));
  }
  expect(await nextAt("t.bad")).toBe("2026-11-27 10:01:00");
});

test("goes by the clock of its time zone, and over its changes", async () => {
  const { set } = await processes(1, {
    "t.moscow": at({ cron: "0 9 * * *", timeZone: "Europe/Moscow" }),
    "t.berlin": at({ cron: "30 2 29 3 *", timeZone: "Europe/Berlin" }),
  });
  expect(await nextAt("t.moscow")).toBe("2026-11-28 06:00:00");
  // 02:30 isn't on that clock in the year 2026, when it is set forward in that night; in 2027 it is.
  expect(await nextAt("t.berlin")).toBe("2027-03-29 00:30:00");
  set(Date.parse("2026-11-28T06:00:00Z"));
  await until(() => expect(done).toEqual(["2026-11-28T06:00:00.000Z"]));
});

test("begins anew with another cron, and else goes on where it was", async () => {
  const first = await processes(1, { "t.x": at({ cron: "0 12 * * *" }) });
  await first.stop();
  await (await processes(1, { "t.x": at({ cron: "0 12 * * *" }) })).stop();
  expect(await nextAt("t.x")).toBe("2026-11-27 12:00:00");
  await processes(1, { "t.x": at({ cron: "0 13 * * *" }) });
  expect(await nextAt("t.x")).toBe("2026-11-27 13:00:00");
});

test("what was missed while nobody ran counts as missed, too", async () => {
  const first = await processes(1, { "t.x": at({ cron: "* * * * *" }) });
  await first.stop();
  await database.query({ text: "UPDATE task_schedules SET next_at = next_at - interval '1 year'" });
  const { set } = await processes(3, { "t.x": at({ cron: "* * * * *" }) });
  set(START + 1);
  await until(() => expect(done).toEqual(["2026-11-27T10:00:00.000Z"]));
  expect(await nextAt("t.x")).toBe("2026-11-27 10:01:00");
});

test.each(["every day", "61 * * * *", "* * * *", "* * * * * * *", "2040-01-01T00:00:00", "", "@often"])(
  "the cron '%s' is refused where it is written, with the task and what a cron is",
  (cron) => {
    expect(() => at({ cron })).toThrow(
      `the schedule of polis.tasktest.v1.Note: \`cron\` '${cron}' must be minute, hour, day of the month, month, day of the week`,
    );
  },
);

test.each(["@daily", "0 9 * * MON-FRI", "*/10 * * * * *"])("the cron '%s' is one", (cron) => {
  expect(at({ cron })).toMatchObject({ cron, timeZone: "UTC" });
});

test("a cron of days that don't come is refused, and so is a time zone that there isn't", () => {
  expect(() => at({ cron: "0 0 30 2 *" })).toThrow(/`cron` '0 0 30 2 \*' must name a time/);
  for (const timeZone of ["Europe/Atlantis", ""])
    expect(() => at({ cron: "* * * * *", timeZone })).toThrow(
      `the schedule of polis.tasktest.v1.Note: \`timeZone\` '${timeZone}' must be a name of the IANA database`,
    );
});
