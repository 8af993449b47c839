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
 * another (`Europe/Moscow`), whose changes of the clock neither leave a time out nor double one. Throws where either is none.
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
  timeAfter({ cron, timeZone }, new Date());
  return { kind: "schedule", schema: task, cron, timeZone, missed, dataAt: (data ?? (() => ({}))) as Schedule["dataAt"] };
}

type Times = Pick<Schedule, "cron" | "timeZone">;

/** The first time of a schedule after this one. */
export function timeAfter(times: Times, after: Date): Date {
  const next = cronOf(times).nextRun(after);
  if (next === null) throw new Error(`the schedule '${times.cron}' names no time`);
  return next;
}

/** The last time of a schedule that has come by now; undefined where none has. */
export const lastTime = (times: Times, now: Date): Date | undefined => cronOf(times).previousRuns(1, new Date(now.getTime() + 1))[0];

const cronOf = ({ cron, timeZone }: Times): Cron => new Cron(cron, { timezone: timeZone, mode: "5-or-6-parts" });

/** `orders.follow-up` for the schedule `followUp` of orders. */
export const scheduleName = (service: string, name: string): string =>
  `${service}.${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
