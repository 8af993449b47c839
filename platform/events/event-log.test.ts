import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { keysOfFour as keys, logEngines, plainEvent } from "#platform/events/event-log.testing.ts";
import { type Assignment, type EventLog, type FetchedBatch, RecordRefusedError, type Topic } from "#platform/events/event-log.ts";
import type { EventRecord } from "#platform/events/record.ts";
import { uuidv7 } from "#platform/ids.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";

const until = (check: () => void | Promise<void>): Promise<void> => vi.waitFor(check, { timeout: 30_000, interval: 20 });

// What every engine of the event log keeps to.
for (const engine of await logEngines())
  describe.skipIf(engine.isAway)(`the event log ${engine.name}`, () => {
    let topic: Topic;
    let group: string;
    let log: EventLog;
    const logs: EventLog[] = [];
    const another = (metrics?: Metrics): EventLog => {
      const opened = engine.open(metrics);
      logs.push(opened);
      return opened;
    };
    /** Another process's view, which knows the topic. */
    const elsewhere = async (): Promise<EventLog> => {
      const opened = another();
      await opened.ensureTopics([topic]);
      return opened;
    };
    const event = (key: string, eventId: string, payload = ""): EventRecord => plainEvent(topic.name, key, eventId, payload);

    beforeEach(async () => {
      topic = { name: `t.${uuidv7()}`, partitions: 4, retentionMs: 3_600_000 };
      group = `g.${uuidv7()}`;
      log = await elsewhere();
    });
    afterEach(async () => {
      await Promise.all(logs.splice(0).map((one) => one.close()));
    });

    const subscribe = (to: EventLog, handle: (batch: FetchedBatch) => Promise<void>, assigned?: (assignment: Assignment) => void) =>
      to.subscribe({ group, topics: [topic.name], handle, ...(assigned === undefined ? {} : { assigned }) });

    /** Subscribes and keeps the ids of what comes, in their order. */
    async function hear(on: EventLog): Promise<string[]> {
      const heard: string[] = [];
      await subscribe(on, async ({ records }) => void heard.push(...records.map(({ eventId }) => eventId)));
      return heard;
    }

    test("gives a record back as it was published", async () => {
      const record: EventRecord = {
        ...event("ключ", uuidv7(), "payload"),
        type: "polis.orders.v1.OrderCreated",
        occurredAtMs: 1_764_000_000_123,
        traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        actor: "user 4711",
        causationId: uuidv7(),
      };
      const found: EventRecord[] = [];
      await subscribe(log, async ({ records }) => void found.push(...records));
      await log.publish([record]);
      await until(() => expect(found).toHaveLength(1));
      expect({ ...found[0], payload: Buffer.from(found[0]?.payload ?? []).toString() }).toEqual({ ...record, payload: "payload" });
    });

    test("keeps records in order, each once, however many append at once", async () => {
      const heard: FetchedBatch[] = [];
      await subscribe(log, async (batch) => void heard.push(batch));
      const appenders = [log, await elsewhere(), await elsewhere()];
      await Promise.all(
        appenders.map(async (appender, a) => {
          for (let n = 0; n < 30; n++)
            await appender.publish(
              keys.map((key) => event(key, `${a} ${n}`)),
              { durable: n % 2 === 0 },
            );
        }),
      );
      const ids = (partition: number): string[] =>
        heard
          .filter(({ assignment }) => assignment.partition === partition)
          .flatMap(({ records }) => records.map(({ eventId }) => eventId));
      for (const partition of [0, 1, 2, 3]) {
        await until(() => expect(ids(partition)).toHaveLength(90));
        for (const a of [0, 1, 2])
          expect(ids(partition).filter((id) => id.startsWith(`${a} `))).toEqual(Array.from({ length: 30 }, (_, n) => `${a} ${n}`));
      }
    });

    test("refuses what it will never take, and appends nothing of it", async () => {
      const large = event("k", "large", "x".repeat(300_000));
      await expect(log.publish([event("k", "good"), large])).rejects.toThrow(RecordRefusedError);
      await expect(log.publish([{ ...event("k", "lost"), topic: "unknown" }])).rejects.toMatchObject({ record: { eventId: "lost" } });
      await log.publish([event("k", "after")]);
      const heard = await hear(log);
      await until(() => expect(heard).toEqual(["after"]));
      await expect(log.subscribe({ group: `${group}.2`, topics: ["unknown"], handle: async () => {} })).rejects.toThrow(
        "there is no topic unknown",
      );
    });

    test("refuses a topic that is there with another number of partitions", async () => {
      await expect(another().ensureTopics([{ ...topic, partitions: 8 }])).rejects.toThrow(
        /has 4 partitions in \S+( log)? and 8 in the contract/,
      );
    });

    test("takes many megabytes at once, and hands them over in batches of a bound, each once and in order", async () => {
      const batches: FetchedBatch[] = [];
      const sent = Array.from({ length: 3_000 }, (_, n) => event(keys[0] as string, String(n), "x".repeat(n % 100 === 0 ? 200_000 : 10)));
      await log.publish(sent);
      await subscribe(log, async (batch) => void batches.push(batch));
      await until(() =>
        expect(batches.flatMap((batch) => batch.records.map((record) => record.eventId))).toEqual(sent.map((record) => record.eventId)),
      );
      for (const batch of batches) expect(batch.records.length).toBeLessThanOrEqual(1024);
    });

    test("brings a batch again until it is handled, and goes on from there after a restart", async () => {
      const seen: string[] = [];
      let failing = 3;
      const handle = async ({ records }: FetchedBatch): Promise<void> => {
        seen.push(...records.map((record) => record.eventId));
        if (failing-- > 0) throw new Error("not now");
      };
      await log.publish([event("k", "a")]);
      await subscribe(log, handle);
      await until(() => expect(seen).toEqual(["a", "a", "a", "a"]));
      await log.close();
      const next = await elsewhere();
      await subscribe(next, handle);
      await next.publish([event("k", "b")]);
      await until(() => expect(seen).toEqual(["a", "a", "a", "a", "b"]));
      await until(async () => expect((await lagOf(next)).every((events) => events === 0n)).toBe(true));
    });

    test("hears of what another process appended", async () => {
      const heard = await hear(log);
      await (await elsewhere()).publish([event("k", "a")]);
      await until(() => expect(heard).toEqual(["a"]));
    });

    test("holds one partition up without the others", async () => {
      const [held, ...others] = keys as [string, string, string, string];
      const heard: string[] = [];
      const hold = Promise.withResolvers<void>();
      await subscribe(log, async ({ records }) => {
        if (records.some(({ key }) => key === held)) await hold.promise;
        heard.push(...records.map(({ eventId }) => eventId));
      });
      for (let n = 0; n < 50; n++)
        await log.publish([event(held, `held ${n}`, "x".repeat(100_000)), ...others.map((key) => event(key, `${key} ${n}`))]);
      await until(() => expect(heard).toHaveLength(150));
      hold.resolve();
      await until(() => expect(heard).toHaveLength(200));
      expect(heard.filter((id) => id.startsWith("held"))).toEqual(Array.from({ length: 50 }, (_, n) => `held ${n}`));
    });

    test("shares partitions among members, hands them over when one stops, and confirms nobody who has lost one", async () => {
      const handled: string[] = [];
      const held = new Map<string, Map<number, Assignment>>();
      const join = async (to: EventLog, member: string): Promise<void> => {
        const mine = new Map<number, Assignment>();
        held.set(member, mine);
        await subscribe(
          to,
          async ({ records, assignment }) =>
            void handled.push(...records.map(({ eventId }) => `${member} ${assignment.partition} ${eventId}`)),
          (assignment) => void mine.set(assignment.partition, assignment),
        );
      };
      const holds = (member: string): number => [...(held.get(member)?.values() ?? [])].filter(({ signal }) => !signal.aborted).length;
      await join(log, "a");
      await until(() => expect(holds("a")).toBe(4));
      const before = [...(held.get("a")?.values() ?? [])];
      await Promise.all(before.map(({ confirm }) => confirm()));
      const second = await elsewhere();
      await join(second, "b");
      await until(() => expect([holds("a"), holds("b")]).toEqual([2, 2]));
      const lost = before.filter(({ signal }) => signal.aborted);
      expect(lost.length).toBeGreaterThanOrEqual(2);
      for (const { confirm } of lost) await expect(confirm()).rejects.toThrow();
      for (let n = 0; n < 20; n++) await log.publish(keys.map((key) => event(key, String(n))));
      await until(() => expect(new Set(handled.map((line) => line[0]))).toEqual(new Set(["a", "b"])));
      await until(() => expect(handled).toHaveLength(80));
      await second.close();
      for (let n = 20; n < 40; n++) await log.publish(keys.map((key) => event(key, String(n))));
      await until(() => {
        for (const partition of [0, 1, 2, 3]) {
          const ids = handled.filter((line) => line.split(" ")[1] === String(partition)).map((line) => Number(line.split(" ")[2]));
          expect(ids).toEqual(Array.from({ length: 40 }, (_, n) => n));
        }
      });
      expect(holds("a")).toBe(4);
    });

    test("shares each topic among the members that read it: during a roll-out newer ones may read more", async () => {
      const more: Topic = { ...topic, name: `${topic.name}.more` };
      const heard: string[] = [];
      const handle = async ({ records }: FetchedBatch): Promise<void> =>
        void heard.push(...records.map((record) => `${record.topic === more.name ? "more" : "first"} ${record.key}`));
      await subscribe(log, handle);
      const newer = await elsewhere();
      await newer.ensureTopics([more]);
      await newer.subscribe({ group, topics: [topic.name, more.name], handle });
      await newer.publish([topic, more].flatMap(({ name }) => keys.map((key) => plainEvent(name, key as string, uuidv7()))));
      const all = ["first", "more"].flatMap((which) => keys.map((key) => `${which} ${key}`));
      await until(() => expect([...new Set(heard)].sort()).toEqual(all.sort()));
    });

    test("starts a group at the earliest record, and each group by itself", async () => {
      await log.publish([event("k", "a")]);
      const first = await hear(log);
      await until(() => expect(first).toEqual(["a"]));
      group = `g.${uuidv7()}`;
      const second = await hear(log);
      await until(() => expect(second).toEqual(["a"]));
      await log.publish([event("k", "b")]);
      await until(() =>
        expect([first, second]).toEqual([
          ["a", "b"],
          ["a", "b"],
        ]),
      );
    });

    test("knows what each group has still before it, as do the metrics of who runs it, the batch in hand included", async () => {
      await log.publish([event("k", "a"), event("k", "b")]);
      const hold = Promise.withResolvers<void>();
      const metrics = new Metrics();
      const runs = another(metrics);
      await runs.ensureTopics([topic]);
      await subscribe(
        runs,
        () => hold.promise,
        ({ confirm }) => void confirm(),
      );
      const measured = async (): Promise<number[]> =>
        (await metrics.text())
          .split("\n")
          .filter((line) => line.startsWith("polis_consumer_lag_events{"))
          .map((line) => Number(line.split(" ").at(-1)));
      await until(async () => expect((await lagOf(log)).filter((events) => events > 0n)).toEqual([2n]));
      await until(async () => expect((await measured()).sort()).toEqual([0, 0, 0, 2]));
      hold.resolve();
      await until(async () => expect((await lagOf(log)).every((events) => events === 0n)).toBe(true));
      await until(async () => expect(await measured()).toEqual([0, 0, 0, 0]));
    });

    test("lists groups for who runs none, and forgets one that isn't run any more", async () => {
      const groups = engine.groups();
      const mine = async () => (await groups.list()).filter((each) => each.group === group);
      await log.publish([event("k", "a")]);
      const heard: string[] = [];
      const subscription = await subscribe(log, async ({ records }) => void heard.push(...records.map(({ eventId }) => eventId)));
      await until(async () => expect(await mine()).toEqual([{ group, lag: 0n, members: 1 }]));
      await expect(groups.drop(group)).rejects.toThrow(`group ${group} is being run; stop it first`);
      await subscription.stop();
      await log.publish([event("k", "b")]);
      await until(async () => expect(await mine()).toEqual([{ group, lag: 1n, members: 0 }]));
      await groups.drop(group);
      expect(await mine()).toEqual([]);
      await expect(groups.drop(group)).rejects.toThrow(`there is no group '${group}'`);
      await subscribe(log, async ({ records }) => void heard.push(...records.map(({ eventId }) => eventId)));
      await until(() => expect(heard).toEqual(["a", "a", "b"]));
    });

    const lagOf = async (of: EventLog): Promise<bigint[]> =>
      (await of.lag()).filter((lag) => lag.group === group).map(({ events }) => events);
  });
