import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { Admin, ConfigResourceTypes, IncrementalAlterConfigOperationTypes } from "@platformatic/kafka";
import { afterEach, describe, expect, test, vi } from "vitest";
import { missingEngines } from "#platform/engines.testing.ts";
import { plainEvent, testKafka, testTimings } from "#platform/events/event-log.testing.ts";
import type { EventLog } from "#platform/events/event-log.ts";
import { clientOptions, type KafkaConnection } from "#platform/events/kafka-client.ts";
import { openKafkaLog } from "#platform/events/kafka-log.ts";
import type { EventRecord } from "#platform/events/record.ts";
import { testLog } from "#platform/postgres/database.testing.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";

const until = (check: () => void | Promise<void>): Promise<void> => vi.waitFor(check, { timeout: 30_000, interval: 20 });
const topic = { name: "t", partitions: 1, retentionMs: 3_600_000 };
const event = (eventId: string, payload = ""): EventRecord => plainEvent("t", "k", eventId, payload);

const logs: EventLog[] = [];
const open = (connection: KafkaConnection): EventLog => {
  const log = openKafkaLog({ connection, logger: testLog, metrics: new Metrics(), timings: testTimings });
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
