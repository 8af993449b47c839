import { create, equals, type MessageInitShape } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { CreateThingRequestSchema, EverythingSchema, ThingsService } from "#contracts/polis/resttest/v1/resttest_pb.ts";
import { messageFromJson, messageToJson, readJson, registryOf } from "#platform/rest/json.ts";
import { DEPTH_MAX, exactInteger } from "#platform/rest/json-text.ts";
import { CallError } from "#platform/rpc/call-error.ts";

const registry = registryOf([ThingsService]);
const read = (text: string | Uint8Array) =>
  messageFromJson(EverythingSchema, readJson(typeof text === "string" ? Buffer.from(text) : text), registry);

function refusal(text: string | Uint8Array): CallError {
  try {
    read(text);
  } catch (error) {
    if (error instanceof CallError) return error;
    throw error;
  }
  throw new Error(`taken: ${text}`);
}
const faults = (text: string) => refusal(text).violations.map(({ field, rule }) => `${field} ${rule}`);

describe("a field at fault is named with its rule", () => {
  test.each([
    ['{"nope":1,"legs":[{"x":1}]}', ["nope unknown_field", "legs[0].x unknown_field"]],
    ['{"__proto__":{"int64Value":1}}', ["__proto__ unknown_field"]],
    ['{"constructor":1,"toString":2}', ["constructor unknown_field", "toString unknown_field"]],
    ['{"int64Value":"1","int64Value":"2"}', ["int64Value duplicate_field"]],
    ['{"legs":[{},{"amount":1,"amount":1}]}', ["legs[1].amount duplicate_field"]],
    ['{"int64_value":1,"int64Value":1}', ["int64Value duplicate_field"]],
    ['{"int64ByString":{"a.b":1,"a.b":2}}', ['int64ByString["a.b"] duplicate_field']],
    ['{"int64Value":9007199254740993}', ["int64Value unsafe_integer"]],
    ['{"int64Value":-9007199254740992}', ["int64Value unsafe_integer"]],
    ['{"int64Value":1e17}', ["int64Value unsafe_integer"]],
    ['{"int64Value":9223372036854775808}', ["int64Value out_of_range"]],
    ['{"int64Value":"9223372036854775808"}', ["int64Value out_of_range"]],
    ['{"int64Value":1e999}', ["int64Value out_of_range"]],
    ['{"int64Value":1.5}', ["int64Value not_an_integer"]],
    ['{"int64Value":1.00000000000000000001}', ["int64Value not_an_integer"]],
    ['{"int64Value":9007199254740992.5}', ["int64Value not_an_integer"]],
    ['{"int64Value":1e-400}', ["int64Value not_an_integer"]],
    ['{"int64Value":"1.0"}', ["int64Value not_an_integer"]],
    ['{"int64Value":""}', ["int64Value wrong_type"]],
    ['{"int64Value":" 1"}', ["int64Value wrong_type"]],
    ['{"int64Value":"0x1"}', ["int64Value wrong_type"]],
    ['{"int64Value":true}', ["int64Value wrong_type"]],
    ['{"uint64Value":-1}', ["uint64Value out_of_range"]],
    ['{"int32Value":2147483648}', ["int32Value out_of_range"]],
    ['{"int32Value":99999999999999999999}', ["int32Value out_of_range"]],
    ['{"uint32Value":"-1"}', ["uint32Value out_of_range"]],
    ['{"floatValue":1e39}', ["floatValue out_of_range"]],
    ['{"doubleValue":1e309}', ["doubleValue out_of_range"]],
    ['{"doubleValue":"1,5"}', ["doubleValue wrong_type"]],
    ['{"boolValue":"true"}', ["boolValue wrong_type"]],
    ['{"boolValue":1}', ["boolValue wrong_type"]],
    ['{"stringValue":1}', ["stringValue wrong_type"]],
    ['{"stringValue":"\\ud800"}', ["stringValue invalid_text"]],
    ['{"stringList":["a","\\udc00b"]}', ["stringList[1] invalid_text"]],
    ['{"struct":{"a":["\\ud800"]}}', ["struct.a[0] invalid_text"]],
    ['{"int64ByString":{"\\ud800":1}}', ['int64ByString["\\ud800"] invalid_text']],
    ['{"bytesValue":"!"}', ["bytesValue invalid_base64"]],
    ['{"enumValue":"LOST"}', ["enumValue unknown_enum_value"]],
    ['{"enumValue":7}', ["enumValue unknown_enum_value"]],
    ['{"enumList":[null]}', ["enumList[0] wrong_type"]],
    ['{"int64List":[1,null]}', ["int64List[1] wrong_type"]],
    ['{"int64List":1}', ["int64List wrong_type"]],
    ['{"legs":{}}', ["legs wrong_type"]],
    ['{"messageValue":[]}', ["messageValue wrong_type"]],
    ['{"messageValue":{"messageValue":{"int64Value":0.5}}}', ["messageValue.messageValue.int64Value not_an_integer"]],
    ['{"legByInt32":{"x":{}}}', ["legByInt32.x wrong_type"]],
    ['{"legByInt32":{"1":{"amount":0.1}}}', ['legByInt32["1"].amount not_an_integer']],
    ['{"stringByBool":{"yes":"a"}}', ["stringByBool.yes invalid_key"]],
    ['{"textChoice":"a","numberChoice":"1"}', ["numberChoice oneof_conflict"]],
    ['{"timestamp":"2026-02-31T00:00:00"}', ["timestamp invalid_timestamp"]],
    ['{"duration":"1.5"}', ["duration invalid_duration"]],
    ['{"fieldMask":"a_b"}', ["fieldMask invalid_field_mask"]],
    ['{"int64Wrapper":1.5}', ["int64Wrapper not_an_integer"]],
    ['{"any":{"@type":"type.googleapis.com/nobody.Knows"}}', ["any invalid_any"]],
    ["[]", [" wrong_type"]],
    ["null", [" wrong_type"]],
    ["9007199254740993", [" wrong_type"]],
  ])("%s", (text, expected) => {
    expect(faults(text)).toEqual(expected);
    expect(refusal(text).code).toBe("validation_failed");
  });

  test("but of a million faults only some are told", () => {
    expect(refusal(`{"int64List":[${"0.5,".repeat(10_000)}1]}`).violations).toHaveLength(32);
  });
});

describe("what is no JSON is told with its position", () => {
  test.each([
    ["", /ends too early at line 1, column 1/],
    ['{"a":\n  01}', /unexpected "1" at line 2, column 4/],
    ['{"a":1,}', /unexpected "}" at line 1, column 8/],
    ["{'a':1}", /unexpected "'"/],
    ['{"a":NaN}', /unexpected "N"/],
    ['{"a":.5}', /unexpected "\."/],
    ['{"a":1}{}', /unexpected "\{" at line 1, column 8/],
    ['{"a":"b', /ends within a string/],
    ['{"a":"\u0001"}', /control character/],
    ['{"a":"\\x"}', /no such escape at line 1, column 7/],
    ['{"a":"\\u12g4"}', /no such escape/],
    ["\ufeff{}", /unexpected/],
    ["[".repeat(DEPTH_MAX + 1), /nested deeper than/],
    ['{"a":'.repeat(100_000), /nested deeper than/],
  ])("%j", (text, detail) => {
    expect(refusal(text)).toMatchObject({ code: "invalid_json", message: expect.stringMatching(detail) });
  });

  test("nor is what is not UTF-8", () => {
    expect(refusal(Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x7d]))).toMatchObject({ code: "invalid_json", message: "The body is not UTF-8." });
  });

  test("and whatever JSON.parse takes is taken with the same value, whatever it refuses is refused", () => {
    const values = fc.jsonValue({ maxDepth: 6 });
    fc.assert(
      fc.property(values, (value) => {
        expect(plain(readJson(Buffer.from(JSON.stringify(value, null, 1))))).toEqual(JSON.parse(JSON.stringify(value)));
      }),
    );
    const near = fc.string({
      unit: fc.constantFrom("{", "}", "[", "]", '"', ":", ",", "1", "0", "-", ".", "e", "\\", "u", "a", " ", "true", "null"),
    });
    fc.assert(
      fc.property(near, (text) => {
        let parsed: unknown;
        try {
          parsed = JSON.parse(text);
        } catch {
          expect(() => readJson(Buffer.from(text))).toThrow(CallError);
          return;
        }
        // Twice the same key is the one thing that we refuse more.
        if (!text.includes('":')) expect(plain(readJson(Buffer.from(text)))).toEqual(plain(parsed));
      }),
      { numRuns: 2000 },
    );
  });
});

/** Texts of numbers as JSON.parse has them. */
const plain = (tree: unknown): unknown =>
  JSON.parse(JSON.stringify(tree, (_key, value) => (isNumberText(value) ? Number(value.text) : value)));
const isNumberText = (value: unknown): value is { text: string } => typeof value === "object" && value?.constructor.name === "NumberText";

describe("numbers", () => {
  test("an integer may be written in any way that is exactly an integer", () => {
    for (const text of ["1000", '"1000"', "1e3", "1000.0", "1000.00000000000000000000", "0.1e4", "100000000000000000000e-17"])
      expect(read(`{"int64Value":${text},"int32Value":${text}}`)).toMatchObject({ int64Value: 1000n, int32Value: 1000 });
    expect(Object.is((read('{"int32Value":-0}') as { int32Value?: number }).int32Value, 0)).toBe(true);
    expect(read('{"doubleValue":1e-5,"floatValue":"-2.5e3"}')).toMatchObject({ doubleValue: 1e-5, floatValue: -2500 });
  });

  test("amounts at every edge come in exactly or not at all", () => {
    const edges = fc
      .constantFrom(2n ** 53n, 2n ** 63n, -(2n ** 63n), 2n ** 31n, 0n)
      .chain((edge) => fc.bigInt({ min: -3n, max: 3n }).map((by) => edge + by));
    const amounts = fc.oneof(edges, fc.bigInt({ min: -(2n ** 65n), max: 2n ** 65n }));
    fc.assert(
      fc.property(amounts, fc.boolean(), (amount, isText) => {
        const text = `{"int64Value":${isText ? `"${amount}"` : amount}}`;
        const fits = amount >= -(2n ** 63n) && amount < 2n ** 63n;
        const isSafe = amount >= -(2n ** 53n - 1n) && amount <= 2n ** 53n - 1n;
        if (fits && (isText || isSafe)) expect(read(text)).toMatchObject({ int64Value: amount });
        else expect(faults(text)).toEqual([`int64Value ${fits ? "unsafe_integer" : "out_of_range"}`]);
      }),
      { numRuns: 1000 },
    );
  });

  test("the exact integer of a text is found in bounded time", () => {
    expect(exactInteger(`${"0".repeat(500_000)}1${"0".repeat(400_000)}e-400000`)).toBe(1n);
    expect(exactInteger("1e999999999999")).toBeUndefined();
    expect(exactInteger(`0.${"0".repeat(500_000)}1`)).toBeUndefined();
  });
});

describe("there and back", () => {
  const text = fc.string({ unit: "binary" });
  const int64 = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
  const leg = fc.record({ amount: int64, currency: text });
  const everything: fc.Arbitrary<MessageInitShape<typeof EverythingSchema>> = fc.record(
    {
      // JSON.stringify writes -0 as 0.
      doubleValue: fc.double({ noNaN: true }).map((value) => value + 0),
      floatValue: fc.float({ noNaN: true }).map((value) => value + 0),
      int32Value: fc.integer(),
      int64Value: int64,
      uint32Value: fc.nat(),
      uint64Value: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
      boolValue: fc.boolean(),
      stringValue: text,
      bytesValue: fc.uint8Array(),
      enumValue: fc.constantFrom(0, 1, 2),
      int64List: fc.array(int64),
      stringList: fc.array(text),
      legs: fc.array(leg),
      int64ByString: fc.dictionary(text, int64),
      choice: fc.oneof(
        text.map((value) => ({ case: "textChoice" as const, value })),
        int64.map((value) => ({ case: "numberChoice" as const, value })),
      ),
      optionalInt64: int64,
      optionalString: text,
      timestamp: fc.record({ seconds: fc.bigInt({ min: -62135596800n, max: 253402300799n }), nanos: fc.nat(999_999_999) }),
      int64Wrapper: int64,
    },
    { requiredKeys: [] },
  );

  test("every message is the same after it has been JSON, NUL and `__proto__` among its texts and keys", () => {
    fc.assert(
      fc.property(everything, (init) => {
        const message = create(EverythingSchema, init);
        const back = read(messageToJson(EverythingSchema, message, registry));
        expect(equals(EverythingSchema, message, back as typeof message)).toBe(true);
      }),
      { numRuns: 500 },
    );
    const odd = create(EverythingSchema, { stringValue: "a\0b", int64ByString: JSON.parse('{"__proto__":1}') });
    expect(Object.keys((read('{"int64ByString":{"__proto__":"1"}}') as typeof odd).int64ByString)).toEqual(["__proto__"]);
    expect(read(messageToJson(EverythingSchema, odd, registry))).toMatchObject({ stringValue: "a\0b" });
  });

  test("null is left out; Any holds what is known here", () => {
    expect(read('{"int64Value":null,"legs":null,"messageValue":null,"textChoice":null,"numberChoice":"1"}')).toMatchObject({
      int64Value: 0n,
      legs: [],
      choice: { case: "numberChoice", value: 1n },
    });
    const any = '{"@type":"type.googleapis.com/polis.resttest.v1.Leg","amount":"7","currency":"RUB"}';
    expect(JSON.parse(messageToJson(EverythingSchema, read(`{"any":${any}}`), registry)).any).toEqual(JSON.parse(any));
  });

  test("any bytes at all are a message or a refusal, never a fault", () => {
    const bodies = fc.oneof(
      fc.uint8Array().map((bytes) => Buffer.from(bytes)),
      fc.json().map((body) => Buffer.from(body)),
      fc.dictionary(fc.constantFrom("amount", "currency", "x"), fc.jsonValue()).map((body) => Buffer.from(JSON.stringify(body))),
    );
    fc.assert(
      fc.property(bodies, (bytes) => {
        try {
          messageFromJson(CreateThingRequestSchema, readJson(bytes), registry);
        } catch (error) {
          expect(error).toBeInstanceOf(CallError);
          expect((error as CallError).status).toBe("INVALID_ARGUMENT");
        }
      }),
      { numRuns: 1000 },
    );
  });
});
