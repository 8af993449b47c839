import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import { OrderCreatedSchema } from "#contracts/polis/orders/v1/events_pb.ts";
import { PaymentFailedSchema } from "#contracts/polis/payments/v1/events_pb.ts";
import { printProto } from "#contracts/print-proto.ts";
import { missingEngines } from "#platform/engines.testing.ts";
import { testKafka } from "#platform/events/event-log.testing.ts";
import { unframe } from "#platform/schemas/wire-format.ts";
import { settled } from "./support/settled.ts";
import { testDatabases } from "./support/test-databases.ts";
import { startTestPolis } from "./support/test-polis.ts";

const { SCHEMA_REGISTRY_URL = "", TEST_KCAT = "", TEST_PYTHON = "" } = process.env;
const isThere = missingEngines(["kafka", "registry"]).length === 0 && TEST_KCAT !== "" && TEST_PYTHON !== "";
const brokers = isThere ? testKafka().brokers.join(",") : "";
const root = join(import.meta.dirname, "..");

/** What a program that isn't ours prints. */
const run = async (file: string, ...args: string[]): Promise<Buffer> =>
  (await promisify(execFile)(file, args, { encoding: "buffer", timeout: 40_000 })).stdout;

describe.skipIf(!isThere)("who isn't one of us", async () => {
  const databases = await testDatabases();
  const topicOf = (name: string): string => `${databases.environment.KAFKA_PREFIX}${name}`;
  const polis = isThere ? await startTestPolis(databases) : undefined;
  const userId = randomUUID();
  const rest = polis?.rest(userId);

  test("reads our events: kcat their bytes, Confluent's client for Python the contract's messages", async () => {
    if (rest === undefined) throw new Error("no Polis runs");
    const { body: account } = await rest.openAccount();
    await rest.topUp(account.id, 100, "money");
    const orders = await Promise.all([10, 20, 500].map(async (amount) => (await rest.createOrder({ amount })).body));
    for (const { id } of orders) await settled(rest, id);

    const headers = String(await run(TEST_KCAT, "-b", brokers, "-t", topicOf("orders.events"), "-C", "-e", "-q", "-f", "%k %h\\n"));
    for (const { id } of orders)
      expect(headers).toMatch(new RegExp(`^${id} event-id=[0-9a-f-]{36},event-type=polis.orders.v1.OrderCreated,`, "m"));
    const value = await run(TEST_KCAT, "-b", brokers, "-t", topicOf("orders.events"), "-C", "-e", "-q", "-c", "1", "-f", "%s");
    expect(unframe(value).schemaId).toBeGreaterThan(0);

    const read = async (topic: string, message: string, count: number) => {
      const args = [brokers, SCHEMA_REGISTRY_URL, topicOf(topic), message, join(root, "contracts", "descriptors.binpb"), String(count)];
      const lines = String(await run(TEST_PYTHON, join(root, ".ci", "clients", "consume.py"), ...args));
      return lines
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line));
    };
    const created = await read("orders.events", "polis.orders.v1.OrderCreated", orders.length);
    for (const { id, amount } of orders)
      expect(created).toContainEqual({
        key: id,
        schema: printProto(OrderCreatedSchema.file),
        event: expect.objectContaining({
          eventType: "polis.orders.v1.OrderCreated",
          data: { orderId: id, userId, amount, currency: "RUB" },
        }),
      });
    // The second message of its file.
    const [failed] = await read("payments.events", "polis.payments.v1.PaymentFailed", 1);
    expect(failed).toMatchObject({
      key: orders[2]?.id,
      schema: printProto(PaymentFailedSchema.file),
      event: { data: { userId, reason: "insufficient_funds" } },
    });
  });
});
