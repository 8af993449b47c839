import { globSync } from "node:fs";
import { join } from "node:path";
import { create, type DescFile, type DescMessage, hasOption, type Message, ScalarType } from "@bufbuild/protobuf";
import { TimestampSchema, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { createValidator } from "@bufbuild/protovalidate";
import { StringRulesSchema } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { LegSchema } from "#contracts/polis/accounts/v1/accounts_pb.ts";
import { event as eventOption } from "#contracts/polis/options/v1/options_pb.ts";
import { messagesOf } from "#platform/contract/edge-messages.testing.ts";
import { madeFields, spoilt } from "#platform/contract/edge-rules.testing.ts";
import { type FieldInit, type MadeField, type MadeOptions, madeType } from "#platform/contract/made-type.testing.ts";
import { surelyValid } from "#platform/contract/rules.ts";

const validator = createValidator();
const judged = (schema: DescMessage, message: Message) => validator.validate(schema, message).kind;

/** Requests and events of all contracts there are. */
const types = (
  await Promise.all(
    globSync(join(import.meta.dirname, "../../contracts/polis/*/v1/*_pb.ts")).map((path) => import(path) as Promise<object>),
  )
)
  .flatMap((module) => Object.values(module) as { readonly kind?: string }[])
  .filter((value): value is DescFile => value.kind === "file")
  .flatMap(({ services, messages }) => [
    ...services.flatMap(({ methods }) => methods.map(({ input }) => input)),
    ...messages.filter((message) => hasOption(message, eventOption)),
  ]);
const named = [...new Map(types.map((schema) => [schema.typeName, schema]))];
const served = named.filter(([name]) => /^polis\.(accounts|orders|payments)\./.test(name));

test("the contracts are found", () => {
  expect(named.length).toBeGreaterThan(30);
  expect(served.map(([name]) => name)).toEqual(
    expect.arrayContaining(["polis.accounts.v1.PostRequest", "polis.orders.v1.OrderCreated", "polis.payments.v1.PaymentFailed"]),
  );
});

function mustBeSound(schema: DescMessage, message: Message): number {
  if (!surelyValid(schema, message)) return 0;
  expect(judged(schema, message)).toBe("valid");
  return 1;
}

describe("what is waved through is valid", () => {
  test.each(named)("%s", (_, schema) => {
    const messages = fc.oneof(messagesOf(schema, "valid"), messagesOf(schema, "edgy"));
    fc.assert(
      fc.property(messages, (message) => void mustBeSound(schema, message)),
      { numRuns: 300 },
    );
    const spoil = (message: Message) => {
      for (const one of spoilt(message)) mustBeSound(schema, one);
    };
    fc.assert(fc.property(messagesOf(schema, "valid"), spoil), { numRuns: 5 });
  });

  test("under rules of every kind, alone and together", () => {
    let passed = 0;
    const samples = madeFields.chain((field) => {
      const schema = madeType([field]);
      return fc.tuple(fc.constant(schema), fc.array(messagesOf(schema, "edgy"), { minLength: 10, maxLength: 10 }));
    });
    const judge = ([schema, messages]: [DescMessage, Message[]]) => {
      for (const message of messages) passed += mustBeSound(schema, message);
      for (const message of spoilt(messages[0]!)) mustBeSound(schema, message);
    };
    fc.assert(fc.property(samples, judge), { numRuns: 2000 });
    expect(passed).toBeGreaterThan(2000);
  });
});

describe("what is valid is waved through", () => {
  test.each(served)("%s", (_, schema) => {
    let valid = 0;
    fc.assert(
      fc.property(fc.oneof(messagesOf(schema, "valid"), messagesOf(schema, "edgy")), (message) => {
        const isValid = judged(schema, message) === "valid";
        if (isValid) valid++;
        return surelyValid(schema, message) === isValid;
      }),
      { numRuns: 300 },
    );
    expect(valid).toBeGreaterThan(100);
  });
});

const held = { name: "held", of: ScalarType.STRING } as const;
const text = { $typeName: "test.v1.Made", held: "a" } as Message;
const time = { $typeName: "test.v1.Made", held: timestampFromMs(1) } as Message;
const bytes = { $typeName: "test.v1.Made", held: new Uint8Array(1) } as Message;
const cel = [{ id: "any", expression: "true" }];
const unknown = [{ no: 9999, wireType: 0, data: new Uint8Array([1]) }];

describe("valid messages are left to protovalidate", () => {
  const alone: [string, MadeField, MadeOptions, Message][] = [
    ["under a rule in CEL", { ...held, rules: { cel } }, {}, text],
    ["under a rule in CEL of the whole message", held, { rules: { cel } }, text],
    ["where fields exclude each other", held, { rules: { oneof: [{ fields: ["held"] }] } }, text],
    ["where a pattern isn't a plain one", { ...held, rules: { type: { case: "string", value: { pattern: "^.$" } } } }, {}, text],
    ["under a rule that comes rarely", { ...held, rules: { type: { case: "string", value: { prefix: "a" } } } }, {}, text],
    ["where a field demands to be the chosen one", { ...held, as: "case", rules: { required: true } }, {}, choice("held")],
    ["where bytes are required", { name: "held", of: ScalarType.BYTES, rules: { required: true } }, {}, bytes],
    ["outside of proto3", held, { syntax: "proto2" }, text],
    [
      "under a rule of times",
      { name: "held", of: TimestampSchema, rules: { type: { case: "timestamp", value: { greaterThan: { case: "gt", value: {} } } } } },
      {},
      time,
    ],
    ["where each item differs", { ...held, as: "list", rules: unique() }, {}, { ...text, held: ["a"] } as Message],
  ];
  test.each(alone)("%s", (_, field, options, message) => {
    const schema = madeType([field], options);
    expect(judged(schema, message)).toBe("valid");
    expect(surelyValid(schema, message)).toBe(false);
  });
});

test("where a contract's rules are at fault, no message is waved through, even if it doesn't hold what they are about", () => {
  const ofAnother = { ...held, as: "optional", rules: { type: { case: "bool", value: { const: true } } } } as const;
  const ofNewer = { ...held, as: "optional", rules: { type: { case: "string", value: create(StringRulesSchema) } } } as const;
  ofNewer.rules.type.value.$unknown = unknown;
  for (const field of [ofAnother, ofNewer]) {
    const schema = madeType([field]);
    expect(judged(schema, create(schema))).toBe("error");
    expect(surelyValid(schema, create(schema))).toBe(false);
  }
});

test("what only a prototype holds is missing", () => {
  const account = { $typeName: "polis.accounts.v1.AccountRef", account: { case: "house", value: "sales" } };
  const leg = { $typeName: "polis.accounts.v1.Leg", credit: account, amount: 1n, currency: "RUB" };
  const inherited = Object.assign(Object.create({ debit: account }), leg);
  expect(surelyValid(LegSchema, { ...leg, debit: account } as Message)).toBe(true);
  expect([judged(LegSchema, inherited), surelyValid(LegSchema, inherited)]).toEqual(["invalid", false]);
});

function choice(name: string): Message {
  return { $typeName: "test.v1.Made", choice: { case: name, value: "a" } } as Message;
}

function unique(): FieldInit {
  return { type: { case: "repeated", value: { unique: true } } };
}
