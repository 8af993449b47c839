import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { Admin, ConfigResourceTypes, IncrementalAlterConfigOperationTypes } from "@platformatic/kafka";
import { afterEach, describe, expect, test, vi } from "vitest";
import { missingEngines } from "#platform/engines.testing.ts";
import { keysOfFour, plainEvent, testKafka, testTimings } from "#platform/events/event-log.testing.ts";
import { type Assignment, type EventLog, FencedError } from "#platform/events/event-log.ts";
import { clientOptions, type KafkaConnection } from "#platform/events/kafka-client.ts";
import { openKafkaLog } from "#platform/events/kafka-log.ts";
import type { EventRecord } from "#platform/events/record.ts";
import type { EventTimings } from "#platform/events/timings.ts";
import { testLog } from "#platform/postgres/database.testing.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";

const until = (check: () => void | Promise<void>): Promise<void> => vi.waitFor(check, { timeout: 30_000, interval: 20 });
const topic = { name: "t", partitions: 1, retentionMs: 3_600_000 };
const event = (eventId: string, payload = ""): EventRecord => plainEvent("t", "k", eventId, payload);

const logs: EventLog[] = [];
const open = (connection: KafkaConnection, timings: EventTimings = testTimings): EventLog => {
  const log = openKafkaLog({ connection, logger: testLog, metrics: new Metrics(), timings });
  logs.push(log);
  return log;
};
afterEach(async () => {
  await Promise.all(logs.splice(0).map((log) => log.close()));
});

async function hear(log: EventLog, group = "g"): Promise<string[]> {
  const heard: string[] = [];
  await log.subscribe({ group, topics: ["t"], handle: async ({ records }) => void heard.push(...records.map(({ eventId }) => eventId)) });
  return heard;
}

test("a process starts while Kafka is away, says of what it would publish that it can't, and stops", async () => {
  const log = open({ brokers: ["127.0.0.1:9"], prefix: "" });
  await log.ensureTopics([topic]);
  await hear(log);
  await expect(log.publish([event("a")])).rejects.toThrow();
});

test("a process that is told to stop while Kafka takes connections and answers nothing doesn't wait for it", {
  timeout: 10_000,
}, async () => {
  const sockets: Socket[] = [];
  const mute = createServer((socket) => void sockets.push(socket)).listen(0, "127.0.0.1");
  await once(mute, "listening");
  const log = open({ brokers: [`127.0.0.1:${(mute.address() as AddressInfo).port}`], prefix: "" });
  const ensured = log.ensureTopics([topic]);
  await hear(log);
  const published = log.publish([event("a")]).catch((error: unknown) => error);
  await until(() => expect(sockets.length).toBeGreaterThan(1));
  await log.close();
  expect(await published).toBeInstanceOf(Error);
  await ensured;
  for (const socket of sockets) socket.destroy();
  mute.close();
});

describe.skipIf(missingEngines(["kafka"]).length > 0)("in a cluster of its own", () => {
  async function asking<T>(ask: (admin: Admin) => Promise<T>): Promise<T> {
    const admin = new Admin(clientOptions(testKafka()));
    try {
      return await ask(admin);
    } finally {
      await admin.close();
    }
  }

  test("deployments with other prefixes share it and hear nothing of each other", async () => {
    const [first, second] = [open(testKafka()), open(testKafka())];
    await Promise.all([first, second].map((log) => log.ensureTopics([topic])));
    const [one, two] = [await hear(first), await hear(second)];
    await first.publish([event("a")]);
    await second.publish([event("b")]);
    await until(() => expect([one, two]).toEqual([["a"], ["b"]]));
    expect(await first.lag()).toEqual([expect.objectContaining({ group: "g", topic: "t", partition: 0 })]);
  });

  test("the retention that the contract says is set, no event stays long past it, and it is set again when the contract says another", async () => {
    const to = testKafka();
    const retention = () =>
      asking(async (admin) => {
        const resource = {
          resourceType: ConfigResourceTypes.TOPIC,
          resourceName: `${to.prefix}t`,
          configurationKeys: ["retention.ms", "segment.ms"],
        };
        return Object.fromEntries(
          (await admin.describeConfigs({ resources: [resource] }))[0]?.configs.map(({ name, value }) => [name, value]) ?? [],
        );
      });
    await open(to).ensureTopics([topic]);
    expect(await retention()).toEqual({ "retention.ms": "3600000", "segment.ms": "21600000" });
    await open(to).ensureTopics([{ ...topic, retentionMs: 7_200_000 }]);
    expect(await retention()).toEqual({ "retention.ms": "7200000", "segment.ms": "21600000" });
  });

  test("what the brokers find too large is refused by itself, and what was published before it is kept", async () => {
    const to = testKafka();
    const log = open(to);
    await log.ensureTopics([topic]);
    await asking((admin) =>
      admin.incrementalAlterConfigs({
        resources: [
          {
            resourceType: ConfigResourceTypes.TOPIC,
            resourceName: `${to.prefix}t`,
            configs: [{ name: "max.message.bytes", configOperation: IncrementalAlterConfigOperationTypes.SET, value: "10000" }],
          },
        ],
      }),
    );
    // The brokers hear of it a moment later.
    await until(() => expect(log.publish([event("probe", "x".repeat(20_000))])).rejects.toThrow());
    await expect(log.publish([event("a"), event("large", "x".repeat(20_000)), event("b")])).rejects.toMatchObject({
      name: "RecordRefusedError",
      record: { eventId: "large" },
    });
    await log.publish([event("b")]);
    const heard = await hear(log);
    await until(() => expect(heard.filter((id) => id !== "probe")).toEqual(["a", "b"]));
  });

  test.each([0, 1])("a partition that was fenced after %d rebalances is taken up anew", async (rebalances) => {
    const to = testKafka();
    const wide = { ...topic, partitions: 4 };
    const log = open(to);
    await log.ensureTopics([wide]);
    const assigned: number[] = [];
    const heard: string[] = [];
    let isFenced = false;
    await log.subscribe({
      group: "g",
      topics: ["t"],
      assigned: ({ partition }) => void assigned.push(partition),
      async handle({ records }) {
        if (isFenced) {
          isFenced = false;
          throw new FencedError("another had it while this one was frozen");
        }
        heard.push(...records.map(({ eventId }) => eventId));
      },
    });
    await until(() => expect(assigned).toHaveLength(4));
    let kept = 0;
    for (let n = 0; n < rebalances; n++) {
      const other = open(to);
      await other.ensureTopics([wide]);
      const taken: number[] = [];
      await other.subscribe({ group: "g", topics: ["t"], assigned: ({ partition }) => void taken.push(partition), handle: async () => {} });
      await until(() => expect(taken).toHaveLength(2));
      kept = [0, 1, 2, 3].find((partition) => !taken.includes(partition)) as number;
      await other.close();
      await until(() => expect(assigned).toHaveLength(6));
    }
    isFenced = true;
    for (const id of ["a", "b"]) await log.publish([plainEvent("t", keysOfFour[kept] as string, id)]);
    await until(() => expect(heard).toEqual(["a", "b"]));
  });

  test("a batch that ends after its partition went to another member leaves the other's position as it is", async () => {
    const to = testKafka();
    const wide = { ...topic, partitions: 4 };
    const [slow, quick] = [open(to), open(to)];
    await Promise.all([slow, quick].map((log) => log.ensureTopics([wide])));
    const hold = Promise.withResolvers<void>();
    const ended: number[] = [];
    let entered = 0;
    await slow.subscribe({
      group: "g",
      topics: ["t"],
      async handle({ assignment }) {
        entered += 1;
        await hold.promise;
        ended.push(assignment.partition);
      },
    });
    await slow.publish(keysOfFour.map((key) => plainEvent("t", key as string, "1")));
    await until(() => expect(entered).toBe(4));
    const heard = new Map<number, string[]>();
    await quick.subscribe({
      group: "g",
      topics: ["t"],
      async handle({ assignment: { partition }, records }) {
        heard.set(partition, [...(heard.get(partition) ?? []), ...records.map(({ eventId }) => eventId)]);
      },
    });
    await until(() => expect(heard.size).toBe(2));
    await slow.publish(keysOfFour.map((key) => plainEvent("t", key as string, "2")));
    const lag = async () => (await quick.lag()).filter(({ partition }) => heard.has(partition)).map(({ events }) => events);
    await until(async () => expect(await lag()).toEqual([0n, 0n]));
    hold.resolve();
    await until(() => expect(ended).toHaveLength(6));
    // The last that the slow one commits is committed with whatever it commits late.
    await until(async () => expect((await quick.lag()).map(({ events }) => events)).toEqual([0n, 0n, 0n, 0n]));
    expect(await lag()).toEqual([0n, 0n]);
  });

  test("a member that was put out of its group is confirmed in nothing, though it hasn't heard of it yet", async () => {
    const to = testKafka();
    const log = open(to, { ...testTimings, heartbeatMs: 3_000 });
    await log.ensureTopics([topic]);
    const { promise: assigned, resolve } = Promise.withResolvers<Assignment>();
    await log.subscribe({ group: "g", topics: ["t"], assigned: resolve, handle: async () => {} });
    const { confirm, signal } = await assigned;
    await confirm();
    await asking(async (admin) => {
      const members = (await admin.describeGroups({ groups: [`${to.prefix}g`] })).get(`${to.prefix}g`)?.members;
      await admin.removeMembersFromConsumerGroup({
        groupId: `${to.prefix}g`,
        members: [...(members?.keys() ?? [])].map((memberId) => ({ memberId })),
      });
    });
    await expect(confirm()).rejects.toThrow();
    expect(signal.aborted).toBe(false);
  });

  test("an event of a topic that only newer code knows is published by an older process", async () => {
    const to = testKafka();
    const [older, newer] = [open(to), open(to)];
    await newer.ensureTopics([topic]);
    await older.publish([event("a")]);
    const heard = await hear(newer);
    await until(() => expect(heard).toEqual(["a"]));
  });

  test("a topic that is deleted is made anew, and all that is published then is read, though its offsets begin anew", async () => {
    const to = testKafka();
    const log = open(to);
    await log.ensureTopics([topic]);
    const heard = await hear(log);
    for (const id of ["a", "b", "c"]) await log.publish([event(id)]);
    await until(() => expect(heard).toEqual(["a", "b", "c"]));
    await asking((admin) => admin.deleteTopics({ topics: [`${to.prefix}t`] }));
    const more = Array.from({ length: 10 }, (_, n) => String(n));
    await until(() => log.publish(more.map((id) => event(id))));
    await until(() => expect(heard.slice(-10)).toEqual(more));
    await until(async () => expect((await log.lag()).map(({ events }) => events)).toEqual([0n]));
  });

  test("a group whose events were deleted before it read them goes on from what there is", async () => {
    const to = testKafka();
    const log = open(to);
    await log.ensureTopics([topic]);
    const first = await hear(log);
    await log.publish([event("a")]);
    await until(async () => expect([first, (await log.lag()).map(({ events }) => events)]).toEqual([["a"], [0n]]));
    await log.close();
    const next = open(to);
    await next.ensureTopics([topic]);
    await next.publish([event("lost"), event("b")]);
    await asking((admin) => admin.deleteRecords({ topics: [{ name: `${to.prefix}t`, partitions: [{ partition: 0, offset: 2n }] }] }));
    const second = await hear(next);
    await until(() => expect(second).toEqual(["b"]));
    await next.publish([event("c")]);
    await until(() => expect(second).toEqual(["b", "c"]));
  });
});
