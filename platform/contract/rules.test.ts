import { create, ScalarType } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { PostRequestSchema } from "#contracts/polis/accounts/v1/accounts_pb.ts";
import { OrderCreatedSchema } from "#contracts/polis/orders/v1/events_pb.ts";
import { madeType } from "#platform/contract/made-type.testing.ts";
import { breach, ruleFault, surelyValid } from "#platform/contract/rules.ts";

const UUID = "0190b6a0-0000-7000-8000-000000000001";
const leg = {
  amount: 1n,
  currency: "RUB",
  debit: { account: { case: "owner" as const, value: { userId: UUID } } },
  credit: { account: { case: "house" as const, value: "sales" } },
};

test("a valid message breaks nothing, and needs no judge", () => {
  const request = create(PostRequestSchema, { postingId: UUID, legs: [leg] });
  expect(surelyValid(PostRequestSchema, request)).toBe(true);
  expect(breach(PostRequestSchema, request)).toBeUndefined();
});

test("every broken rule is named, in the order of the fields", () => {
  const request = create(PostRequestSchema, {
    postingId: "x",
    legs: [{ ...leg, amount: 0n }, { currency: "rub" }],
    referenceOrderId: "",
  });
  expect(breach(PostRequestSchema, request)?.violations?.map((violation) => violation.toString())).toEqual([
    "posting_id: must be a valid UUID [string.uuid]",
    "legs[0].amount: must be greater than 0 [int64.gt]",
    "legs[1].debit: value is required [required]",
    "legs[1].credit: value is required [required]",
    "legs[1].amount: must be greater than 0 [int64.gt]",
    "legs[1].currency: does not match regex pattern `^[A-Z]{3}$` [string.pattern]",
    "reference_order_id: value is empty, which is not a valid UUID [string.uuid_empty]",
  ]);
});

test("a message of another type is an error", () => {
  expect(breach(OrderCreatedSchema, create(PostRequestSchema))?.kind).toBe("error");
});

test("rules at fault are told before there is a message", () => {
  const rules = { type: { case: "bool", value: { const: true } } } as const;
  const schema = madeType([{ name: "held", of: ScalarType.STRING, as: "optional", rules }]);
  expect(ruleFault(schema)).toMatch(/^test\.v1\.Made: expected rule "string", got "bool"/);
  expect(ruleFault(PostRequestSchema)).toBeUndefined();
});
