import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { Connection } from "rabbitmq-client";
import { afterAll, beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { NoteSchema, ReportSchema, UrgentNoteSchema } from "#contracts/polis/tasktest/v1/tasktest_pb.ts";
import { missingEngines } from "#platform/engines.testing.ts";
import { openLine } from "#platform/line.testing.ts";
import { testLog } from "#platform/postgres/database.testing.ts";
import type { Offer, TaskBroker } from "#platform/tasks/broker.ts";
import { task } from "#platform/tasks/define-task.ts";
import { rabbitClient, testRabbit } from "#platform/tasks/rabbit.testing.ts";
import { openRabbitBroker } from "#platform/tasks/rabbit-broker.ts";
import { findTask, listTasks } from "#platform/tasks/stored-tasks.ts";
import { type TestProcess, tasksDatabase, testProcess } from "#platform/tasks/tasks.testing.ts";
import { loggedLines } from "#platform/telemetry/logged-lines.testing.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";

const isAway = missingEngines(["rabbitmq"]).length > 0;

describe.skipIf(isAway)("RabbitMQ", async () => {
  const database = isAway ? (undefined as never) : await tasksDatabase();
  const prefix = `test.${randomUUID()}.`;
  const done: string[] = [];
  const tasks = [
    task(NoteSchema, { write: (_, { text }) => void done.push(text) }),
    task(UrgentNoteSchema, { write: (_, { text }) => void done.push(text) }),
    task(ReportSchema, { prepare: async () => undefined, write: (_, { text }) => void done.push(text) }),
  ];
  const open = (connection = testRabbit(prefix), metrics = new Metrics()) =>
    openRabbitBroker({ connection, logger: testLog, metrics, partingMs: 500 });
  const engine = { name: "carried by RabbitMQ", isAway, open };
  /** Looks into the table when nothing comes from the broker, which here is as good as never. */
  const never = { taskPollMs: 60_000, offerGraceMs: 600_000, offerLagMs: 600_000 };
  const begun = async (timings: object = {}): Promise<TestProcess> => {
    const made = testProcess({ database, engine, tasks, timings });
    await made.begin();
    return made;
  };
  const until = <T>(look: () => Promise<T> | T): Promise<T> => vi.waitFor(look, { timeout: 10_000, interval: 10 });
  const untilDone = (id: string) => until(async () => expect((await findTask(database, id))?.state).toBe("DONE"));

  const rabbit = isAway ? (undefined as never) : rabbitClient(testRabbit(prefix));
  const queues = ["dead-letters", "test.notes", "test.notes.p10", "test.reports"].map((name) => `${prefix}${name}`);
  const [deadLetters, notes, urgent, reports] = queues as [string, string, string, string];
  const waitingIn = async (queue: string) => (await rabbit.queueDeclare({ queue, passive: true })).messageCount;
  beforeEach(async () => {
    done.length = 0;
    await database.query({ text: "TRUNCATE tasks" });
  });
  afterAll(async () => {
    if (isAway) return;
    for (const queue of queues) await rabbit.queueDelete({ queue });
    await rabbit.close();
  });

  test("brings what is enqueued, without a look into the table", async () => {
    const own = await begun(never);
    for (let i = 0; i < 100; i += 1) await own.enqueue(i % 2 === 0 ? NoteSchema : UrgentNoteSchema, { text: `${i}` });
    await until(() => expect(done).toHaveLength(100));
    expect(await waitingIn(notes)).toBe(0);
  });

  test("brings what comes due later, and each try again", async () => {
    const own = await begun(never);
    let tries = 0;
    vi.spyOn(done, "push").mockImplementation(() => {
      tries += 1;
      if (tries === 1) throw new Error("not yet");
      return 0;
    });
    onTestFinished(() => void vi.restoreAllMocks());
    const id = await own.enqueue(NoteSchema, { text: "x" });
    await untilDone(id);
    expect(tries).toBe(2);
  });

  test("has a queue for each priority, so that what is urgent overtakes what waits", async () => {
    const own = testProcess({ database, engine, tasks });
    await (await begun()).stop();
    const [slow, fast] = [await own.enqueue(NoteSchema, { text: "slow" }), await own.enqueue(UrgentNoteSchema, { text: "fast" })];
    const publisher = rabbit.createPublisher({ confirm: true });
    await publisher.send({ routingKey: notes, durable: true }, slow);
    await publisher.send({ routingKey: urgent, durable: true }, fast);
    await publisher.close();
    expect([await waitingIn(notes), await waitingIn(urgent)]).toEqual([1, 1]);
    await begun(never);
    await until(() => expect(done.toSorted()).toEqual(["fast", "slow"]));
  });

  test("carries several that are short in one message, and each that may be long by itself", async () => {
    await (await begun()).stop();
    // Marked as offered where no broker is open, and handed over here.
    const own = testProcess({ database, engine, tasks });
    const offers: Offer[] = [];
    await own.write((tx) => {
      for (const [schema, queue, priority] of [
        [NoteSchema, "test.notes", 0],
        [UrgentNoteSchema, "test.notes", 10],
        [ReportSchema, "test.reports", 0],
      ] as const)
        for (let n = 0; n < 40; n += 1) offers.push({ id: tx.enqueue(schema, { text: `${n}` }), queue, priority });
    });
    const broker = await open();
    onTestFinished(() => broker.close());
    await broker.ensureQueues([
      { name: "test.notes", priorities: [10, 0], idsAMessage: 16 },
      { name: "test.reports", priorities: [0], idsAMessage: 1 },
    ]);
    broker.offer(offers);
    const waiting = () => Promise.all([waitingIn(notes), waitingIn(urgent), waitingIn(reports)]);
    await until(async () => expect(await waiting()).toEqual([3, 3, 40]));
    await begun(never);
    await until(() => expect(done).toHaveLength(120));
    await until(async () => expect(await waiting()).toEqual([0, 0, 0]));
  });

  test("may bring more in one message than there is room for", async () => {
    await (await begun()).stop();
    const ids: string[] = [];
    const own = testProcess({ database, engine, tasks });
    await own.write((tx) => void ids.push(...Array.from({ length: 100 }, (_, n) => tx.enqueue(ReportSchema, { text: `${n}` }))));
    const publisher = rabbit.createPublisher({ confirm: true });
    for (const some of [ids.slice(0, 70), ids.slice(60)]) await publisher.send({ routingKey: reports, durable: true }, some.join(" "));
    await publisher.close();
    await begun(never);
    await until(() => expect(done).toHaveLength(100));
    await until(async () => expect(await waitingIn(reports)).toBe(0));
  });

  test("may lose all that it had, or bring it twice: all is done, and once", async () => {
    const enqueuing = testProcess({ database, engine, tasks });
    await (await begun()).stop();
    const publisher = rabbit.createPublisher({ confirm: true });
    // Those that are enqueued where no broker is open are marked as offered, and were never handed over: as if lost.
    const lost = await enqueuing.enqueue(NoteSchema, { text: "lost" });
    const twice = await enqueuing.enqueue(NoteSchema, { text: "twice" });
    for (let i = 0; i < 3; i += 1) await publisher.send({ routingKey: notes, durable: true }, twice);
    await publisher.close();
    await begun();
    await untilDone(lost);
    await untilDone(twice);
    expect(done.toSorted()).toEqual(["lost", "twice"]);
    expect(await waitingIn(notes)).toBe(0);
  });

  test("what was lost is done though the queue never runs empty", async () => {
    const own = await begun({ offerGraceMs: 600_000, offerLagMs: 200 });
    const lost = await testProcess({ database, engine, tasks }).enqueue(NoteSchema, { text: "lost" });
    let isDone = false;
    const looking = untilDone(lost).then(() => {
      isDone = true;
    });
    while (!isDone) await own.write((tx) => void Array.from({ length: 50 }, () => tx.enqueue(NoteSchema, { text: "another" })));
    await looking;
  });

  test("what it has and brings to nobody is done all the same, which is told", async () => {
    const { log: logger, logged } = loggedLines();
    const mute = async (): Promise<TaskBroker> => {
      const broker = await open();
      // One waits for an answer for good, and the others behind it.
      return {
        ...broker,
        get room() {
          return broker.room;
        },
        deliver: (queue) => broker.deliver(queue, 1, () => new Promise(() => {})),
      };
    };
    const own = testProcess({ database, engine: { ...engine, open: mute }, tasks, logger, timings: { offerLagMs: 600_000 } });
    await own.begin();
    const ids = [
      await own.enqueue(NoteSchema, { text: "1" }),
      await own.enqueue(NoteSchema, { text: "2" }),
      await own.enqueue(NoteSchema, { text: "3" }),
    ];
    for (const id of ids) await untilDone(id);
    expect(await waitingIn(notes)).toBeGreaterThan(0);
    expect(logged.filter(({ msg }) => msg.includes("the broker has tasks and brings none"))).toHaveLength(1);
    await own.stop();
    await rabbit.queuePurge({ queue: notes });
  });

  test("what isn't a task's id ends in the dead letters, and what is nobody's task is forgotten", async () => {
    const own = await begun();
    const publisher = rabbit.createPublisher({ confirm: true });
    for (const body of [
      "garbage",
      Buffer.from([0, 255]),
      { json: true },
      "x".repeat(100_000),
      `${randomUUID()} x`,
      `${randomUUID()} `.repeat(1_001).trim(),
      randomUUID(),
    ])
      await publisher.send({ routingKey: notes, durable: true }, body);
    await publisher.close();
    await untilDone(await own.enqueue(NoteSchema, { text: "after" }));
    await until(async () => expect([await waitingIn(notes), await waitingIn(deadLetters)]).toEqual([0, 6]));
    expect(done).toEqual(["after"]);
    await rabbit.queuePurge({ queue: deadLetters });
  });

  test("a queue that somebody deleted is made again", async () => {
    const own = await begun();
    await rabbit.queueDelete({ queue: notes });
    await untilDone(await own.enqueue(NoteSchema, { text: "meanwhile" }));
    await until(() => waitingIn(notes));
    await untilDone(await own.enqueue(NoteSchema, { text: "after" }));
    expect(await listTasks(database, { state: "DONE" }, 10)).toHaveLength(2);
  });

  test("a queue that differs from what tasks need stops the start, is named, and may be deleted", async () => {
    const other = `test.${randomUUID()}.`;
    const queue = `${other}test.notes`;
    await rabbit.queueDeclare({ queue, durable: true, arguments: { "x-queue-type": "quorum" } });
    const broker = await open(testRabbit(other));
    onTestFinished(() => broker.close());
    const queuesWanted = [{ name: "test.notes", priorities: [0], idsAMessage: 1 }];
    await expect(broker.ensureQueues(queuesWanted)).rejects.toMatchObject({
      message: `RabbitMQ has another queue ${queue} than tasks need: delete it, as nothing is lost by that`,
      cause: { message: expect.stringContaining("x-dead-letter-exchange") },
    });
    for (const name of ["test.notes", "dead-letters"]) await rabbit.queueDelete({ queue: `${other}${name}` });
  });

  test("that won't have us stops the start", async () => {
    const connection = testRabbit(prefix);
    const stranger = { ...connection, url: { ...connection.url, user: { name: "polis", password: "guess" } } };
    await expect(open(stranger)).rejects.toThrow(/RabbitMQ refuses: .*ACCESS_REFUSED|RabbitMQ refuses/);
  });

  /** Where nobody listens. */
  const nobody = async (): Promise<string> => {
    const closed = createServer().listen(0, "127.0.0.1");
    await once(closed, "listening");
    const { port } = closed.address() as AddressInfo;
    await new Promise((resolve) => closed.close(resolve));
    return `127.0.0.1:${port}`;
  };
  /** The RabbitMQ, said to be these nodes. */
  const nodes = (...hosts: string[]) => {
    const connection = testRabbit(prefix);
    return { ...connection, url: { ...connection.url, hosts } };
  };
  const [node = ""] = isAway ? [] : testRabbit(prefix).url.hosts;
  const lineToNode = () => openLine({ host: node.replace(/:\d+$/, ""), port: Number(node.replace(/^.*:/, "")) });

  test("that is away stops neither a start nor a task", async () => {
    const connection = nodes(await nobody());
    const own = testProcess({ database, engine: { ...engine, open: () => open(connection) }, tasks });
    await own.begin();
    await untilDone(await own.enqueue(NoteSchema, { text: "all the same" }));
    await own.stop();
  });

  test("that comes after the start has its queues made then, that of dead letters as well", async () => {
    for (const queue of queues) await rabbit.queueDelete({ queue });
    const { port, line } = await lineToNode();
    line("cut");
    const own = testProcess({ database, engine: { ...engine, open: () => open(nodes(`127.0.0.1:${port}`)) }, tasks });
    await own.begin();
    line("open");
    await until(async () => expect(await Promise.all(queues.map(waitingIn))).toEqual([0, 0, 0, 0]));
  }, 20_000);

  test("of which a node is away is met at the next one, before the start goes on", async () => {
    const broker = await open(nodes(await nobody(), node));
    onTestFinished(() => broker.close());
    expect(broker.room).toBeGreaterThan(0);
  });

  test("of which a node is away and the next one won't have us stops the start", async () => {
    const connection = nodes(await nobody(), node);
    const stranger = { ...connection, url: { ...connection.url, user: { name: "polis", password: "guess" } } };
    await expect(open(stranger)).rejects.toThrow("RabbitMQ refuses");
  });

  test("goes on at another node when one is lost, and back again", async () => {
    const [first, second] = await Promise.all([lineToNode(), lineToNode()]);
    let broker: TaskBroker | undefined;
    const opened = async () => {
      broker = await open(nodes(`127.0.0.1:${first.port}`, `127.0.0.1:${second.port}`));
      return broker;
    };
    const own = testProcess({ database, engine: { ...engine, open: opened }, tasks, timings: never });
    await own.begin();
    const isTaking = (opened: TaskBroker | undefined) => opened !== undefined && opened.room > 0;
    const sockets = () => [first.sockets(), second.sockets()];
    await untilDone(await own.enqueue(NoteSchema, { text: "by the first" }));
    expect(sockets()).toEqual([1, 0]);
    first.line("cut");
    await until(() => expect([sockets(), isTaking(broker)]).toEqual([[0, 1], true]));
    await untilDone(await own.enqueue(NoteSchema, { text: "by the second" }));
    first.line("open");
    second.line("cut");
    await until(() => expect([sockets(), isTaking(broker)]).toEqual([[1, 0], true]));
    await untilDone(await own.enqueue(NoteSchema, { text: "by the first again" }));
  }, 20_000);

  test("that refuses what a channel offers is offered more on another", async () => {
    const opened = vi.spyOn(Connection.prototype, "createPublisher");
    onTestFinished(() => void vi.restoreAllMocks());
    const queue = `${prefix}full`;
    await rabbit.queueDeclare({
      queue,
      durable: true,
      arguments: { "x-queue-type": "quorum", "x-max-length": 1, "x-overflow": "reject-publish" },
    });
    onTestFinished(async () => void (await rabbit.queueDelete({ queue })));
    const metrics = new Metrics();
    const broker = await open(testRabbit(prefix), metrics);
    onTestFinished(() => broker.close());
    const startedMs = performance.now();
    await until(async () => {
      broker.offer([{ id: randomUUID(), queue: "full", priority: 0 }]);
      expect(await metrics.text()).toMatch(/^polis_task_offers_total\{queue="full",outcome="failed"\} [3-9]\d$/m);
    });
    // Not with each refusal: once a second.
    expect(opened.mock.calls.length).toBeGreaterThan(1);
    expect(opened.mock.calls.length).toBeLessThanOrEqual(2 + (performance.now() - startedMs) / 1_000);
    await rabbit.queuePurge({ queue });
    await until(async () => {
      broker.offer([{ id: randomUUID(), queue: "full", priority: 0 }]);
      expect(await waitingIn(queue)).toBeGreaterThan(0);
    });
  });

  test("tells what it took, and what it gave back for want of the queue", async () => {
    const metrics = new Metrics();
    const broker = await open(testRabbit(prefix), metrics);
    onTestFinished(() => broker.close());
    await broker.ensureQueues([{ name: "test.notes", priorities: [0], idsAMessage: 16 }]);
    const offers = (queue: string, count: number) => Array.from({ length: count }, () => ({ id: randomUUID(), queue, priority: 0 }));
    broker.offer([...offers("test.notes", 20), ...offers("nowhere", 3), ...offers("test.notes", 1)]);
    const told = async () =>
      [...(await metrics.text()).matchAll(/^polis_task_offers_total\{queue="(.*)",outcome="(.*)"\} (\d+)$/gm)]
        .map(([, ...one]) => one.join(" "))
        .sort();
    await until(async () => expect(await told()).toEqual(["nowhere returned 3", "test.notes confirmed 21"]));
    await rabbit.queuePurge({ queue: notes });
  });

  test("that takes connections and answers nothing holds up no task", async () => {
    const mute = createServer(() => {}).listen(0, "127.0.0.1");
    await once(mute, "listening");
    const { port } = mute.address() as AddressInfo;
    const own = testProcess({
      database,
      engine: { ...engine, open: () => open(nodes(`127.0.0.1:${port}`)) },
      tasks,
    });
    await own.begin();
    await untilDone(await own.enqueue(NoteSchema, { text: "all the same" }));
    await own.stop();
    mute.close();
  }, 20_000);
});
