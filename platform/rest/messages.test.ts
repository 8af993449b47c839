import { create, equals, fromJson, type JsonValue, toJson } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import {
  type CancelThingRequest,
  type CreateThingRequest,
  type EchoRequest,
  EchoResponseSchema,
  type FindThingRequest,
  FoundThingSchema,
  type GetNamedRequest,
  GetNamedResponseSchema,
  ListNamesResponseSchema,
  ListThingsRequestSchema,
  type ReplaceThingRequest,
  TakeWebhookResponseSchema,
  type UpdateThingRequest,
} from "#contracts/polis/resttest/v1/resttest_pb.ts";
import { httpBody, thing, thingId, things, userId } from "#platform/rest/things.testing.ts";
import { CallError } from "#platform/rpc/call-error.ts";

describe("a route", () => {
  test("takes its body as the request and answers with the method's status, zero values written and amounts as strings", async () => {
    const { send, last, received } = await things({ unary: { CreateThing: () => thing({ amount: 0n }) } });
    const answer = await send("POST", "/things", { amount: "9223372036854775807", currency: "RUB" });
    expect(answer.status).toBe(201);
    expect(answer.headers.get("content-type")).toBe("application/json; charset=utf-8");
    expect(answer.json()).toEqual({ id: thingId, userId, amount: "0", currency: "RUB", status: "NEW", labels: [], notes: {} });
    expect(last<CreateThingRequest>()).toMatchObject({ amount: 2n ** 63n - 1n, currency: "RUB", description: "" });
    expect(received[0]?.call.caller).toMatchObject({ kind: "user", userId });
  });

  test("takes path variables, also nested ones and those of an additional binding", async () => {
    const { call, last } = await things();
    await call("GET", `/things/${thingId}?owner.strict=true`);
    expect(last()).toMatchObject({ thingId, owner: { userId: "", strict: true } });
    await call("GET", `/owners/a%2Fb%20c/things/${thingId}`);
    expect(last()).toMatchObject({ thingId, owner: { userId: "a/b c" } });
  });

  test("tells a verb behind a colon from an id", async () => {
    const { call, send, last, received } = await things();
    await call("POST", "/things/a%3Ab:cancel?reason=late");
    expect(last<CancelThingRequest>()).toMatchObject({ thingId: "a:b", reason: "late" });
    await send("POST", "/things:cancel", { thingId: "x", reason: "why" });
    expect(last<CancelThingRequest>()).toMatchObject({ thingId: "x", reason: "why" });
    await call("GET", "/things/some:thing");
    expect(received.at(-1)).toMatchObject({ method: "GetThing", request: { thingId: "some:thing" } });
    expect((await call("POST", "/things/some:other")).status).toBe(405);
  });

  test("matches names of several segments, and keeps an encoded slash told apart", async () => {
    const { call, last } = await things({
      unary: { GetNamed: (request) => create(GetNamedResponseSchema, { name: (request as GetNamedRequest).name }) },
    });
    await call("GET", "/named/shelves/1/books/war%20and%20peace?view=all");
    expect(last()).toMatchObject({ name: "shelves/1/books/war and peace", view: "all" });
    expect((await call("GET", "/files/a/b%2Fc/d.txt")).json()).toEqual({ name: "a/b%2Fc/d.txt" });
    expect((await call("GET", "/files/a/b:describe")).json()).toEqual({ name: "a/b" });
    expect((await call("GET", "/named/shelves/1/books/2/pages")).status).toBe(404);
  });

  test("answers with one field where the contract says so, with a custom method, and with nothing at 204", async () => {
    const { call, received } = await things({ unary: { ListNames: () => create(ListNamesResponseSchema, { names: ["a", "b"] }) } });
    expect((await call("GET", "/names")).json()).toEqual(["a", "b"]);
    expect((await call("PURGE", "/cache")).status).toBe(200);
    expect(received.at(-1)?.method).toBe("PurgeCache");
    const gone = await call("DELETE", `/things/${thingId}?force=true`);
    expect([gone.status, gone.text]).toEqual([204, ""]);
    expect(received.at(-1)?.request).toMatchObject({ thingId, force: true });
  });

  test("answers HEAD as GET without a body", async () => {
    const { call } = await things({ unary: { GetThing: () => thing() } });
    const [get, head] = [await call("GET", `/things/${thingId}`), await call("HEAD", `/things/${thingId}`)];
    expect([head.status, head.text]).toEqual([200, ""]);
    expect(head.headers.get("content-length")).toBe(String(get.text.length));
  });

  test("sends a client to where the answer says, and answers it where that is nowhere", async () => {
    const found = create(FoundThingSchema, { name: "a", location: "https://app.example.com/things?id=1&x=%20" });
    const { call, last } = await things({
      unary: { FindThing: (request) => ((request as FindThingRequest).name === "a" ? found : create(FoundThingSchema, { name: "b" })) },
    });
    const sent = await call("GET", "/finder?name=a", { redirect: "manual" });
    expect([sent.status, sent.headers.get("location"), sent.text]).toEqual([303, found.location, ""]);
    expect([sent.headers.get("cache-control"), sent.headers.get("referrer-policy")]).toEqual(["no-store", "no-referrer"]);
    const head = await call("HEAD", "/finder?name=a", { redirect: "manual" });
    expect([head.status, head.headers.get("location")]).toEqual([303, found.location]);
    const answered = await call("GET", "/finder?name=b");
    expect([answered.status, answered.json()]).toEqual([200, { location: "", name: "b" }]);
    expect(last<FindThingRequest>().name).toBe("b");
  });

  test("that would send to what no header can hold is a fault of ours", async () => {
    const { call } = await things({ unary: { FindThing: () => create(FoundThingSchema, { location: "/a\r\nset-cookie: b=c" }) } });
    const answer = await call("GET", "/finder", { redirect: "manual" });
    expect([answer.status, answer.headers.get("location"), answer.headers.get("set-cookie")]).toEqual([500, null, null]);
  });

  test("lets be cached what the contract lets, and answers 304 to who has it", async () => {
    const { call } = await things({ unary: { GetThing: () => thing() } });
    const first = await call("GET", `/things/${thingId}`);
    expect(first.headers.get("cache-control")).toBe("private, max-age=60");
    expect(first.headers.get("vary")).toBe("X-User-Id");
    const again = await call("GET", `/things/${thingId}`, { headers: { "if-none-match": first.headers.get("etag") ?? "" } });
    expect([again.status, again.text]).toEqual([304, ""]);
    expect((await call("GET", "/things")).headers.get("cache-control")).toBe("no-store");
  });
});

describe("a query", () => {
  test("holds proto names or JSON names, nested and repeated fields, enums by name, times, bytes", async () => {
    const { call, last } = await things();
    const query =
      "page_size=7&pageToken=a%2Bb+c&status=USED&statuses=NEW&statuses=GONE&labels=x&labels=y&filter.paid=false&filter.minAmount=9007199254740993" +
      "&filter.ratio=1.5&filter.token=_-8&filter.inner.numbers=1&filter.inner.numbers=2&since=2026-01-31T12:00:00Z&window=1.5s&wrapped=true";
    expect((await call("GET", `/things?${query}`)).status).toBe(200);
    const expected = fromJson(ListThingsRequestSchema, {
      pageSize: 7,
      pageToken: "a+b c",
      status: "USED",
      statuses: ["NEW", "GONE"],
      labels: ["x", "y"],
      filter: { paid: false, minAmount: "9007199254740993", ratio: 1.5, token: "/+8=", inner: { numbers: ["1", "2"] } },
      since: "2026-01-31T12:00:00Z",
      window: "1.5s",
      wrapped: true,
    });
    expect(equals(ListThingsRequestSchema, last(), expected)).toBe(true);
  });

  test("may hold what the contract doesn't know where that says so; what it knows is held to its rules all the same", async () => {
    const { call, last } = await things();
    expect((await call("GET", "/finder?session_state=x&name=a&scope=b+c&name.x=1&%3D=")).status).toBe(200);
    expect(last<FindThingRequest>().name).toBe("a");
    expect((await call("GET", "/finder?name=a&name=b&x=1")).problem().errors).toMatchObject([{ field: "name", rule: "duplicate_field" }]);
    expect((await call("GET", "/things?x=1")).problem().errors).toMatchObject([{ field: "x", rule: "unknown_field" }]);
  });

  test("counts an empty value as left out", async () => {
    const { call, last } = await things();
    expect((await call("GET", "/things?page_size=&status=&labels=&filter.paid=&page_token")).status).toBe(200);
    expect(last()).toMatchObject({ pageSize: 0, labels: [] });
    expect(Object.hasOwn(last<object>(), "status")).toBe(false);
  });

  test.each([
    ["nope=1&page_sizes=2", "nope", "unknown_field"],
    ["filter.nope=1", "filter.nope", "unknown_field"],
    ["filter=1", "filter", "unknown_field"],
    ["not_in_queries=1", "not_in_queries", "unknown_field"],
    ["__proto__=1", "__proto__", "unknown_field"],
    ["page_size.x=1", "page_size.x", "unknown_field"],
    ["page_size=1.5", "page_size", "not_an_integer"],
    ["page_size=many", "page_size", "wrong_type"],
    ["page_size=2147483648", "page_size", "out_of_range"],
    ["page_size=1&page_size=2", "page_size", "duplicate_field"],
    ["page_size=1&pageSize=2", "pageSize", "duplicate_field"],
    ["status=LOST", "status", "unknown_enum_value"],
    ["statuses=NEW&statuses=LOST", "statuses[1]", "unknown_enum_value"],
    ["filter.paid=yes", "filter.paid", "wrong_type"],
    ["since=yesterday", "since", "invalid_timestamp"],
  ])("%s is refused by name: %s, %s", async (query, field, rule) => {
    const { call, received } = await things();
    const answer = await call("GET", `/things?${query}`);
    expect(answer.status).toBe(400);
    expect(answer.problem()).toMatchObject({
      code: "validation_failed",
      errors: expect.arrayContaining([expect.objectContaining({ field, rule })]),
    });
    expect(received).toEqual([]);
  });

  test("can't name what path or body holds, nor break its encoding", async () => {
    const { call, send } = await things();
    expect((await call("GET", `/things/${thingId}?thing_id=x`)).problem().errors).toMatchObject([
      { field: "thing_id", rule: "unknown_field" },
    ]);
    expect((await send("POST", "/things?amount=1", { amount: 1 })).problem().errors).toMatchObject([
      { field: "amount", rule: "unknown_field" },
    ]);
    expect((await call("GET", "/things?page_token=%ff")).problem()).toMatchObject({ status: 400, code: "invalid_query" });
  });
});

describe("path and body", () => {
  test("may say the same and must not contradict", async () => {
    const { send, last } = await things();
    expect((await send("PUT", `/things/${thingId}`, { thingId, amount: 5 })).status).toBe(200);
    expect(last<ReplaceThingRequest>()).toMatchObject({ thingId, amount: 5n });
    const other = await send("PUT", `/things/${thingId}`, { thing_id: userId });
    expect(other.problem()).toMatchObject({ status: 400, errors: [{ field: "thingId", rule: "path_mismatch" }] });
  });

  test("a field as the body has its paths begin there, also those that the service names", async () => {
    const refusal = new CallError("INVALID_ARGUMENT", "validation_failed", "no", {
      violations: [{ field: "thing.amount", rule: "int64.gt", message: "no" }],
    });
    const { send } = await things({ unary: { UpdateThing: () => Promise.reject(refusal) } });
    expect((await send("PATCH", "/things/x", { amount: true })).problem().errors).toMatchObject([{ field: "amount", rule: "wrong_type" }]);
    expect((await send("PATCH", "/things/x", { amount: 1 })).problem().errors).toMatchObject([{ field: "amount", rule: "int64.gt" }]);
  });

  test("PATCH derives its mask from what the body names, and takes one from the query instead", async () => {
    const { send, last } = await things();
    await send("PATCH", "/things/x", { amount: "0", description: null, dimensions: { width: 3 }, notes: { a: "b" } });
    expect(last<UpdateThingRequest>().updateMask?.paths).toEqual(["amount", "description", "dimensions.width", "notes"]);
    expect(last<UpdateThingRequest>().thing).toMatchObject({ id: "x", amount: 0n });
    await send("PATCH", "/things/x?update_mask=created_at,dimensions.width", { amount: "1" });
    expect(last<UpdateThingRequest>().updateMask?.paths).toEqual(["created_at", "dimensions.width"]);
  });
});

test("a message of every kind of field comes back as it was sent", async () => {
  const { send } = await things({
    unary: { Echo: (request) => create(EchoResponseSchema, { everything: (request as EchoRequest).everything }) },
  });
  const everything = {
    int64Value: "-9223372036854775808",
    doubleValue: "NaN",
    bytesValue: "AAEC",
    enumValue: "GONE",
    textChoice: "x",
    struct: { a: [1, null, { b: "c" }] },
    int64Wrapper: "7",
    duration: "1.500s",
  };
  const { json } = await send("POST", "/echo", { everything });
  expect(json().everything).toMatchObject(everything);
  const sent = fromJson(EchoResponseSchema, { everything });
  expect(toJson(EchoResponseSchema, fromJson(EchoResponseSchema, json() as JsonValue))).toEqual(toJson(EchoResponseSchema, sent));
});

describe("bytes", () => {
  test("of bytes whose type no header can hold is a fault of ours", async () => {
    const { call } = await things({ unary: { Download: () => httpBody("text/csv\r\nx-evil: 1", "a"), GetThing: () => thing() } });
    const answer = await call("GET", "/downloads/a");
    expect([answer.status, answer.problem().code, answer.headers.get("x-evil")]).toEqual([500, "internal", null]);
    expect((await call("GET", `/things/${thingId}`)).status).toBe(200);
  });

  test("an HttpBody answer is sent as it is, and an HttpBody request is taken as it comes", async () => {
    const { call, last } = await things({
      unary: {
        Download: () => httpBody("text/html", "<script>1</script>"),
        TakeWebhook: () => create(TakeWebhookResponseSchema, { bytesCount: 3n }),
      },
    });
    const file = await call("GET", "/downloads/a%2Fb.html");
    expect([file.text, file.headers.get("content-type")]).toEqual(["<script>1</script>", "text/html"]);
    expect(file.headers.get("content-security-policy")).toContain("sandbox");
    expect(last()).toMatchObject({ file: "a/b.html" });
    const body = new Uint8Array([0xff, 0, 0x7b]);
    expect((await call("POST", "/webhooks", { body, headers: { "content-type": "application/json" } })).json()).toEqual({
      contentType: "",
      bytesCount: "3",
    });
    expect(last()).toMatchObject({ contentType: "application/json" });
    expect([...last<{ data: Uint8Array }>().data]).toEqual([...body]);
  });
});
