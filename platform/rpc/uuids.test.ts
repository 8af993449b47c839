import { create, type Message } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { AccountsService, PostingSchema, PostRequestSchema } from "#contracts/polis/accounts/v1/accounts_pb.ts";
import { CreateOrderRequestSchema, OrderSchema } from "#contracts/polis/orders/v1/orders_pb.ts";
import { serviceCaller } from "#platform/access/caller.ts";
import { testLog } from "#platform/postgres/database.testing.ts";
import { createClient } from "#platform/rpc/client.ts";
import { defineEndpoint } from "#platform/rpc/endpoint.ts";
import { lowerUuids } from "#platform/rpc/uuids.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";
import { passingTracer } from "#platform/telemetry/tracing.ts";

const UPPER = "ABCDEF01-2345-7000-8000-ABCDEFABCDEF";
const lower = UPPER.toLowerCase();

const posting = (id: string) => ({
  postingId: id,
  legs: [
    { debit: { account: { case: "owner" as const, value: { userId: id, kind: "A" } } }, amount: 1n, currency: "RUB" },
    { debit: { account: { case: "accountId" as const, value: id } }, credit: { account: { case: "house" as const, value: "world" } } },
  ],
  referenceOrderId: id,
});

test("writes what the contract calls a uuid in lower case, however deep it lies, and nothing else", () => {
  const request = create(PostRequestSchema, posting(UPPER));
  lowerUuids(PostRequestSchema, request);
  expect(request).toEqual(create(PostRequestSchema, posting(lower)));
});

test("leaves texts, and messages without uuids, as they are", () => {
  const order = create(CreateOrderRequestSchema, { description: UPPER, currency: "RUB" });
  lowerUuids(CreateOrderRequestSchema, order);
  expect(order.description).toBe(UPPER);
  // Its ids carry no rule: an answer is the service's own word.
  const answer = create(OrderSchema, { id: UPPER });
  lowerUuids(OrderSchema, answer);
  expect(answer.id).toBe(UPPER);
  expect(() => lowerUuids(PostRequestSchema, create(PostRequestSchema))).not.toThrow();
});

test("is done at a service's edge, and the caller's own message stays as it was", async () => {
  const seen: Message[] = [];
  const answer = async (request: Message) => {
    seen.push(request);
    return create(PostingSchema);
  };
  const handlers = Object.fromEntries(AccountsService.methods.map(({ localName }) => [localName, answer]));
  const endpoint = defineEndpoint(AccountsService, handlers as never, { metrics: new Metrics(), tracer: passingTracer, log: testLog });
  const request = create(AccountsService.method.void.input, { postingId: UPPER });
  await createClient(AccountsService, endpoint, { caller: serviceCaller("payments") }).void(request);
  expect(seen).toMatchObject([{ postingId: lower }]);
  expect(request.postingId).toBe(UPPER);
});
