import { randomUUID } from "node:crypto";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { authority, certificateFolder } from "#platform/config/certificates.testing.ts";
import { platformSettings } from "#platform/config/platform-settings.ts";
import { readSettings } from "#platform/config/settings.ts";
import { testTimings } from "#platform/events/event-log.testing.ts";
import { at127, namesAsked } from "#platform/process/engine-tls.testing.ts";
import { openTaskBroker } from "#platform/process/task-broker.ts";
import { deleteQueues, testRabbit } from "#platform/tasks/rabbit.testing.ts";
import { loggedLines } from "#platform/telemetry/logged-lines.testing.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";

const {
  RABBITMQ_URL = "",
  TEST_SECURE_RABBITMQ_URL = "",
  TEST_RABBITMQ_CA_FILE = "",
  TEST_RABBITMQ_CERT_FILE = "",
  TEST_RABBITMQ_KEY_FILE = "",
} = process.env;

async function open(environment: Readonly<Record<string, string>>) {
  const { log, logged } = loggedLines();
  const settings = readSettings(environment, platformSettings([]));
  const broker = await openTaskBroker({ settings, logger: log, metrics: new Metrics(), timings: testTimings });
  onTestFinished(() => broker?.close());
  return { broker, logged };
}

describe.skipIf(TEST_SECURE_RABBITMQ_URL === "")("a RabbitMQ that encrypts, and wants a certificate", () => {
  const url = TEST_SECURE_RABBITMQ_URL;
  const pair = { RABBITMQ_CERT_FILE: TEST_RABBITMQ_CERT_FILE, RABBITMQ_KEY_FILE: TEST_RABBITMQ_KEY_FILE };
  const known = { RABBITMQ_URL: url, RABBITMQ_CA_FILE: TEST_RABBITMQ_CA_FILE };
  const others = authority(certificateFolder(), "others");
  const other = others.sign("localhost");

  test("carries tasks for who has one, and believes it", async () => {
    const prefix = `test.${randomUUID()}.`;
    const { broker, logged } = await open({ ...known, ...pair, RABBITMQ_PREFIX: prefix });
    onTestFinished(() => deleteQueues(testRabbit(prefix), ["notes"]));
    const [queue, id] = [{ name: "notes", priorities: [0], idsAMessage: 1 }, randomUUID()];
    await broker?.ensureQueues([queue]);
    broker?.offer([{ id, queue: "notes", priority: 0 }]);
    const brought: string[] = [];
    broker?.deliver(queue, 1, async (ids) => {
      brought.push(...ids);
      return "taken";
    });
    await vi.waitFor(() => expect(brought).toEqual([id]), 10_000);
    expect(broker?.room).toBeGreaterThan(0);
    expect(logged).toEqual([]);
  });

  test.each([
    ["whose authority isn't known", { ...known, ...pair, RABBITMQ_CA_FILE: others.caFile }, /^RABBITMQ_CA_FILE: none of its authorities/],
    ["for which no authority is named", { RABBITMQ_URL: url, ...pair }, /^RABBITMQ_CA_FILE must name who signs its certificate/],
    ["at a host that its certificate doesn't name", { ...known, ...pair, RABBITMQ_URL: at127(url) }, /^RABBITMQ_URL: .* another host/],
    ["to which none is shown", known, /^RABBITMQ_(CERT_FILE: it wants a certificate|URL: .* may want a certificate)/],
    [
      "to which another's is shown",
      { ...known, RABBITMQ_CERT_FILE: other.certFile, RABBITMQ_KEY_FILE: other.keyFile },
      /^RABBITMQ_(CERT_FILE: it doesn't believe|URL: .* may not believe the certificate)/,
    ],
    ["that is asked as if it didn't encrypt", { RABBITMQ_URL: url.replace("amqps:", "amqp:") }, /^RABBITMQ_URL: .* may take TLS alone/],
    [
      "that is asked where it doesn't encrypt",
      { ...known, RABBITMQ_URL: RABBITMQ_URL.replace("amqp:", "amqps:") },
      /doesn't encrypt there/,
    ],
  ])("%s is away, and it is told why", async (_, environment, reason) => {
    const { broker, logged } = await open(environment);
    expect(logged.map(({ msg, err }) => [msg, err?.message])).toEqual([
      ["RabbitMQ is away; tasks are taken from PostgreSQL", expect.stringMatching(reason)],
    ]);
    expect(broker?.room).toBe(0);
  });
});

test("a RabbitMQ that encrypts is told which host is meant, where all nodes have one name", async () => {
  const ours = authority(certificateFolder(), "ours");
  const [one, other] = await Promise.all([namesAsked(ours.sign("localhost")), namesAsked(ours.sign("localhost"))]);
  await open({ RABBITMQ_URL: `amqps://localhost:${one.port},localhost:${other.port}`, RABBITMQ_CA_FILE: ours.caFile });
  await vi.waitFor(() => expect([one.names[0], other.names[0]]).toEqual(["localhost", "localhost"]));
});
