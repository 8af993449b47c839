import { randomBytes, randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, expect, test } from "vitest";
import { formatTraceparent } from "#platform/telemetry/trace-context.ts";
import type { Order } from "./support/rest-client.ts";
import { settled } from "./support/settled.ts";
import { testDatabases } from "./support/test-databases.ts";
import { startApartPolis } from "./support/test-polis.ts";
import { until } from "./support/until.ts";

type Span = {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly name: string;
  readonly links?: readonly { readonly traceId: string }[];
  /** The process that sent it. */
  readonly process: string;
};

/** Everything that processes have sent to it. */
const spans: Span[] = [];
const collector = createServer(async (request, response) => {
  let body = "";
  for await (const chunk of request) body += chunk;
  for (const { resource, scopeSpans } of JSON.parse(body).resourceSpans) {
    const { value } = resource.attributes.find(({ key }: { key: string }) => key === "service.name");
    for (const scope of scopeSpans) for (const span of scope.spans) spans.push({ ...span, process: value.stringValue });
  }
  response.end("{}");
}).listen(0, "127.0.0.1");
await once(collector, "listening");
afterAll(() => void collector.close());

const polis = await startApartPolis(await testDatabases(), {
  OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${(collector.address() as AddressInfo).port}`,
  OTEL_BSP_SCHEDULE_DELAY: "50",
});
const rest = polis.rest(randomUUID());
const { body: account } = await rest.openAccount();
await rest.topUp(account.id, 1_000_000, "money");

/** What an order's trace must hold, with the process that does it. */
const STEPS = {
  "POST /orders": "gateway",
  "polis.orders.v1.OrdersService/CreateOrder": "orders",
  "consume payments.on-order-created": "payments",
  "polis.accounts.v1.AccountsService/Post": "accounts",
  "consume orders.on-payment-settled": "orders",
} as const;

/** An order from somebody who samples it, once it has ended. */
async function sampledOrder(): Promise<{ traceId: string; rootId: string }> {
  const [traceId, rootId] = [randomBytes(16).toString("hex"), randomBytes(8).toString("hex")];
  const traceparent = formatTraceparent({ traceId, spanId: rootId, sampled: true });
  const { body } = await rest.call<Order>("POST", "/orders", { body: { amount: 10 }, key: randomUUID(), traceparent });
  expect(await settled(rest, body.id)).toMatchObject({ status: "FINISHED" });
  return { traceId, rootId };
}

/** The spans of a trace, and those of batches that are linked to it, once every step is among them. */
const stepsOf = (traceId: string): Promise<Span[]> =>
  until(`the spans of ${traceId}`, async () => {
    const found = spans.filter((span) => span.traceId === traceId || span.links?.some((link) => link.traceId === traceId));
    return Object.entries(STEPS).every(([name, process]) => found.some((span) => span.name === name && span.process === process)) && found;
  });

test("the spans of an order from its POST to its end are one trace over all processes, each under another of it", async () => {
  const { traceId, rootId } = await sampledOrder();
  const found = await stepsOf(traceId);
  const ids = new Set([rootId, ...found.map(({ spanId }) => spanId)]);
  expect(found.filter(({ traceId: of, parentSpanId }) => of !== traceId || !ids.has(parentSpanId ?? ""))).toEqual([]);
  expect(found.filter(({ parentSpanId }) => parentSpanId === rootId).map(({ name }) => name)).toEqual(["POST /orders"]);
});

test("of many orders at once each has its own trace, to which the spans of the batches that it went through are linked", async () => {
  const orders = await Promise.all(Array.from({ length: 20 }, sampledOrder));
  for (const { traceId } of orders) {
    const found = await stepsOf(traceId);
    const elsewhere = found.filter((span) => span.traceId !== traceId).map(({ name }) => name);
    expect(elsewhere.every((name) => name.startsWith("consume "))).toBe(true);
  }
  expect(spans.some(({ name, links = [] }) => name.startsWith("consume ") && links.length > 0)).toBe(true);
});
