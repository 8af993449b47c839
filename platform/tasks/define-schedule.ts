import type { DescMessage, MessageInitShape } from "@bufbuild/protobuf";
import { Cron } from "croner";

/** What becomes of times that passed while nobody was there. */
export type Missed =
  /** One task for all of them. */
  | "once"
  /** A task for each. */
  | "all"
  /** None. */
  | "skip";

/** A task at times of the calendar: once for each time, however many processes there are. */
export type Schedule = {
  readonly kind: "schedule";
  readonly schema: DescMessage;
  readonly cron: string;
  readonly timeZone: string;
  readonly missed: Missed;
  readonly dataAt: (at: Date) => object;
};

/**
 * Defines when a task is enqueued: `cron` as crontab has it, minutes first, or with seconds in front; in UTC unless `timeZone` names
 * another (`Europe/Moscow`), whose changes of the clock neither leave a time out nor double one. Throws, naming the task, where either is
 * none.
 */
export function schedule<T extends DescMessage>(
  task: T,
  when: {
    readonly cron: string;
    readonly timeZone?: string;
    /** `once` unless said. */
    readonly missed?: Missed;
    /** What the task is to know; nothing unless said. */
    readonly data?: (at: Date) => MessageInitShape<T>;
  },
): Schedule {
  const { cron, timeZone = "UTC", missed = "once", data } = when;
  assertTimes(task.typeName, { cron, timeZone });
  return { kind: "schedule", schema: task, cron, timeZone, missed, dataAt: (data ?? (() => ({}))) as Schedule["dataAt"] };
}

type Times = Pick<Schedule, "cron" | "timeZone">;

const CRON_RULE =
  "minute, hour, day of the month, month, day of the week, as `30 9 * * MON-FRI`, or with seconds in front; or @hourly, @daily, …";

function assertTimes(typeName: string, times: Times): void {
  const { cron, timeZone } = times;
  const refusal = (rule: string, cause?: unknown): Error => new Error(`the schedule of ${typeName}: ${rule}`, { cause });
  if (!isTimeZone(timeZone)) throw refusal(`\`timeZone\` '${timeZone}' must be a name of the IANA database, as Europe/Moscow`);
  const cronRefusal = (cause?: unknown): Error => refusal(`\`cron\` '${cron}' must be ${CRON_RULE}`, cause);
  // The library takes a date as well, at which a schedule would fire once, and never start again.
  if (!/^@[a-z]+$/i.test(cron) && ![5, 6].includes(cron.trim().split(/\s+/).length)) throw cronRefusal();
  let next: Date | null;
  try {
    next = cronOf(times).nextRun(new Date());
  } catch (error) {
    throw cronRefusal(error);
  }
  if (next === null) throw refusal(`\`cron\` '${cron}' must name a time, and names none`);
}

/** An empty one would be this machine's own. */
function isTimeZone(name: string): boolean {
  try {
    return name !== "" && new Intl.DateTimeFormat("en", { timeZone: name }) !== undefined;
  } catch {
    return false;
  }
}

/** The first time of a schedule after this one. */
export function timeAfter(times: Times, after: Date): Date {
  const next = cronOf(times).nextRun(after);
  if (next === null) throw new Error(`'${times.cron}' names no time`);
  return next;
}

/** The last time of a schedule that has come by now; undefined where none has. */
export const lastTime = (times: Times, now: Date): Date | undefined => cronOf(times).previousRuns(1, new Date(now.getTime() + 1))[0];

const cronOf = ({ cron, timeZone }: Times): Cron => new Cron(cron, { timezone: timeZone, mode: "5-or-6-parts" });

/** `orders.follow-up` for the schedule `followUp` of orders. */
export const scheduleName = (service: string, name: string): string =>
  `${service}.${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
