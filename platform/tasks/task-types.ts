import { type DescMessage, getOption, hasOption, type Message, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { durationMs, type Timestamp } from "@bufbuild/protobuf/wkt";
import { task as taskOption } from "#contracts/polis/options/v1/options_pb.ts";
import { breach } from "#platform/contract/rules.ts";
import { textGetter } from "#platform/contract/text-getter.ts";
import { derivedUuid, uuidv7 } from "#platform/ids.ts";
import { handOver } from "#platform/rpc/handover.ts";

const DEFAULT_ATTEMPTS = 5;
const DEFAULT_PAUSES_MS = [1_000, 10_000, 60_000, 600_000];
const DEFAULT_TIME_LIMIT_MS = 30_000;
const DAY_MS = 24 * 3_600_000;
/** The longest, and what is kept unless said: one that is canceled is kept as long, whatever its type says. */
const KEEP_MS_MAX = 7 * DAY_MS;
/** A timer of Node ends at once where it is to last longer than 2^31 ms. */
const TIME_LIMIT_MS_MAX = 24 * DAY_MS;
const ATTEMPTS_MAX = 1_000;
/** Each has a queue of its own in RabbitMQ, and is a number in an index of PostgreSQL. */
const PRIORITY_MAX = 1_000;
/** What is larger belongs into a file or a row, of which the task names the id. */
const PAYLOAD_BYTES_MAX = 256 * 1024;
/** They stand in indexes, whose entries PostgreSQL keeps below 2,704 bytes. */
const KEY_BYTES_MAX = 512;
/** A name is part of a broker's, which takes 255 bytes. */
const QUEUE_NAME = /^[a-z0-9]+([.-][a-z0-9]+)*$/;
const QUEUE_NAME_LENGTH_MAX = 150;
/** Named so in RabbitMQ: what isn't a task, and the queues of priorities. And `none` is what POLIS_QUEUES says for no queue at all. */
const TAKEN_NAME = /^(dead-letters|none)$|\.p-?[0-9]+$/;
const SERVICE = "{service}";

/** What a contract says of a task, with its defaults. */
export type TaskOptions = {
  readonly queue: string;
  readonly attempts: number;
  /** Before each further try; the last one repeats. */
  readonly pausesMs: readonly number[];
  readonly timeLimitMs: number;
  readonly priority: number;
  /** None: such tasks don't wait for each other. */
  readonly concurrencyKeyOf: ((task: object) => string) | undefined;
  /** Of the queue, over all processes; undefined without a limit. */
  readonly concurrency: number | undefined;
  readonly keepMs: number;
};

/** Reads a task's option, as it is in this service; throws, naming the message, where the contract breaks the rules that the option's comment gives. */
function taskOptions(schema: DescMessage, service: string): TaskOptions {
  const name = schema.typeName;
  if (!hasOption(schema, taskOption)) throw new Error(`${name}: option (polis.options.v1.task) is missing`);
  const said = getOption(schema, taskOption);
  const must = (holds: boolean, rule: string): void => {
    if (!holds) throw new Error(`${name}: ${rule}`);
  };
  const queue = said.queue.replace(SERVICE, service);
  must(
    QUEUE_NAME.test(queue) && queue.length <= QUEUE_NAME_LENGTH_MAX,
    `\`queue\` must be words of a-z and 0-9 with dots or hyphens between, ${QUEUE_NAME_LENGTH_MAX} characters at the most`,
  );
  must(!TAKEN_NAME.test(queue), "`queue` must not be dead-letters or none, nor end as queues of priorities do, in .p and a number");
  const pausesMs = said.pauses.map(durationMs);
  const timeLimitMs = said.timeLimit === undefined ? DEFAULT_TIME_LIMIT_MS : durationMs(said.timeLimit);
  const keepMs = said.keep === undefined ? KEEP_MS_MAX : durationMs(said.keep);
  must(said.attempts <= ATTEMPTS_MAX, `\`attempts\` must be ${ATTEMPTS_MAX} at the most`);
  must(
    pausesMs.every((ms) => ms >= 0),
    "none of `pauses` may be negative",
  );
  must(timeLimitMs > 0 && timeLimitMs <= TIME_LIMIT_MS_MAX, "`time_limit` must be longer than 0, and 24 days at the most");
  must(Math.abs(said.priority) <= PRIORITY_MAX, `\`priority\` must be from -${PRIORITY_MAX} to ${PRIORITY_MAX}`);
  must(keepMs >= 0 && keepMs <= KEEP_MS_MAX, "`keep` must be from 0 to 7 days");
  return {
    queue,
    attempts: said.attempts === 0 ? DEFAULT_ATTEMPTS : said.attempts,
    pausesMs: pausesMs.length === 0 ? DEFAULT_PAUSES_MS : pausesMs,
    timeLimitMs,
    priority: said.priority,
    concurrencyKeyOf: said.concurrencyKey === "" ? undefined : textGetter(schema, said.concurrencyKey, `${name}: \`concurrency_key\``),
    concurrency: said.concurrency === 0 ? undefined : said.concurrency,
    keepMs,
  };
}

/** The tasks of one service by type, each with what its contract says. Throws where one is named twice, or two of a queue disagree on its concurrency. */
export function tasksOf(schemas: readonly DescMessage[], service: string): ReadonlyMap<string, TaskOptions> {
  const tasks = new Map<string, TaskOptions>();
  for (const schema of schemas) {
    if (tasks.has(schema.typeName)) throw new Error(`${service} names the task ${schema.typeName} twice`);
    const options = taskOptions(schema, service);
    for (const [type, { queue, concurrency }] of tasks)
      if (queue === options.queue && concurrency !== options.concurrency)
        throw new Error(`${schema.typeName} and ${type} disagree on the concurrency of ${queue}`);
    tasks.set(schema.typeName, options);
  }
  return tasks;
}

/** The service of each queue. Throws where a queue is named by two: ids of one would be brought to workers of the other. */
export function ownersOfQueues(
  services: readonly { readonly name: string; readonly tasks: readonly { readonly schema: DescMessage }[] }[],
): ReadonlyMap<string, string> {
  const owners = new Map<string, string>();
  for (const { name, tasks } of services)
    for (const [type, { queue }] of tasksOf(
      tasks.map(({ schema }) => schema),
      name,
    )) {
      const owner = owners.get(queue) ?? name;
      if (owner !== name) throw new Error(`${type}: the queue ${queue} is ${owner}'s, and a queue belongs to one service`);
      owners.set(queue, owner);
    }
  return owners;
}

export type EnqueueOptions = {
  /**
   * Names this task among those of its type: while the row of an earlier one is kept, waiting or ended, nothing happens. So what is
   * enqueued twice runs once.
   */
  readonly key?: string;
  /** Not before; at once unless said. */
  readonly runAt?: Timestamp;
};

/** A task on its way into the table. */
export type NewTask = {
  readonly id: string;
  readonly type: string;
  readonly queue: string;
  readonly priority: number;
  readonly key: string | undefined;
  readonly concurrencyKey: string | undefined;
  readonly runAt: Timestamp | undefined;
  readonly payload: Uint8Array;
  readonly traceparent: string;
  readonly actor: string;
  readonly causationId: string;
};

/** The id of the task that is, or would be, enqueued under this key. */
export const taskId = ({ typeName }: Pick<DescMessage, "typeName">, key: string): string => derivedUuid("task", typeName, key);

/** Makes a task of `data`, validated. Throws where it breaks the contract or is too large: the fault of who enqueues it. */
export function newTask<T extends DescMessage>(
  schema: T,
  data: MessageInitShape<T>,
  options: TaskOptions,
  { key, runAt, ...headers }: EnqueueOptions & Pick<NewTask, "traceparent" | "actor" | "causationId"> & { readonly nowMs: number },
): NewTask {
  const task = handOver(schema, data);
  assertValid(schema, task);
  const payload = toBinary(schema as DescMessage, task);
  if (payload.length > PAYLOAD_BYTES_MAX)
    throw new Error(`${schema.typeName} has ${payload.length} bytes; at most ${PAYLOAD_BYTES_MAX} are kept`);
  if (key !== undefined && !isIndexable(key))
    throw new Error(`${schema.typeName}: its key is empty, is longer than ${KEY_BYTES_MAX} bytes, or holds NUL`);
  const concurrencyKey = options.concurrencyKeyOf?.(task);
  if (concurrencyKey !== undefined && !isIndexable(concurrencyKey))
    throw new Error(`${schema.typeName}: its concurrency key is longer than ${KEY_BYTES_MAX} bytes, or holds NUL`);
  const { traceparent, actor, causationId, nowMs } = headers;
  const id = key === undefined ? uuidv7(nowMs) : taskId(schema, key);
  const { queue, priority } = options;
  return { id, type: schema.typeName, queue, priority, key, concurrencyKey, runAt, payload, traceparent, actor, causationId };
}

const isIndexable = (key: string): boolean => key !== "" && Buffer.byteLength(key) <= KEY_BYTES_MAX && !key.includes("\0");

/** Throws where a task breaks the rules of its contract. */
export function assertValid(schema: DescMessage, task: Message): void {
  const broken = breach(schema, task);
  if (broken !== undefined) throw new Error(`${schema.typeName} breaks its contract: ${broken.error.message}`, { cause: broken.error });
}
