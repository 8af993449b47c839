import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer as createHttpServer, type RequestListener } from "node:http";
import { type AddressInfo, connect, createServer, type Server } from "node:net";
import type { DescMessage } from "@bufbuild/protobuf";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { fileOf } from "#contracts/file-of.testing.ts";
import { OrderCreatedSchema } from "#contracts/polis/orders/v1/events_pb.ts";
import { printProto } from "#contracts/print-proto.ts";
import { testLog } from "#platform/postgres/database.testing.ts";
import { openSchemaRegistry, type SchemaRegistryOptions } from "#platform/schemas/schema-registry.ts";
import { unframe } from "#platform/schemas/wire-format.ts";

const { SCHEMA_REGISTRY_URL = "", SCHEMA_REGISTRY_COMPATIBILITY = "FULL_TRANSITIVE" } = process.env;

function open(options: Partial<SchemaRegistryOptions> = {}) {
  const onRefused = vi.fn();
  const registry = openSchemaRegistry({
    url: SCHEMA_REGISTRY_URL,
    compatibility: SCHEMA_REGISTRY_COMPATIBILITY as SchemaRegistryOptions["compatibility"],
    log: testLog,
    pauseMs: () => 10,
    onRefused,
    ...options,
  });
  onTestFinished(() => registry.close());
  return { ...registry, onRefused };
}

/** The message `Made` of a package, which stands second in its file, with fields as they are given. */
function made(name: string, fields: string, more = ""): DescMessage {
  const text = `syntax = "proto3";\npackage ${name};\nmessage Other {}\nmessage Made {\n${fields}\n}\n${more}`;
  return fileOf(`${name.replaceAll(".", "/")}/events.proto`, text).messages[1] as DescMessage;
}

const packageName = (): string => `test.x${randomUUID().replaceAll("-", "")}.v1`;

async function asks(path: string): Promise<unknown> {
  return (await fetch(`${SCHEMA_REGISTRY_URL}${path}`)).json();
}

/** A port of this machine, and what listens there. */
async function listen(server: Server, port = 0): Promise<number> {
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => void server.close());
  return (server.address() as AddressInfo).port;
}

const answering = async (listener: RequestListener): Promise<string> => `http://127.0.0.1:${await listen(createHttpServer(listener))}`;

/** A port on which nobody listens yet, and a way to have the registry behind it. */
async function laterRegistry(): Promise<{ url: string; come(): Promise<void> }> {
  const first = createServer();
  const port = await listen(first);
  first.close();
  await once(first, "close");
  const there = new URL(SCHEMA_REGISTRY_URL);
  const url = new URL(SCHEMA_REGISTRY_URL);
  url.port = String(port);
  return {
    url: url.href,
    async come() {
      const proxy = createServer((socket) => {
        const behind = connect(Number(there.port), there.hostname);
        for (const side of [socket, behind]) side.on("error", () => [socket, behind].forEach((each) => void each.destroy()));
        socket.pipe(behind).pipe(socket);
      });
      await listen(proxy, port);
    },
  };
}

describe.skipIf(SCHEMA_REGISTRY_URL === "")("on a registry", () => {
  test("a message is registered under its name with its whole file, once, and what is published goes by its id and its place", async () => {
    const name = packageName();
    const message = made(name, "  string text = 1;");
    const starters = Array.from({ length: 4 }, () => open());
    await Promise.all(starters.map(({ register }) => register([message])));
    const headers = await Promise.all(starters.map(({ headerOf }) => headerOf(`${name}.Made`)));
    const [header = new Uint8Array()] = headers;
    expect(headers).toEqual(starters.map(() => header));
    const { schemaId } = unframe(Buffer.from(header));
    expect(await asks(`/schemas/ids/${schemaId}`)).toMatchObject({ schemaType: "PROTOBUF", schema: printProto(message.file) });
    expect(await asks(`/subjects/${name}.Made/versions`)).toEqual([1]);
    expect(await asks(`/config/${name}.Made`)).toMatchObject({ compatibilityLevel: SCHEMA_REGISTRY_COMPATIBILITY });
    // [1]: the second of its file.
    expect(Buffer.from(header).subarray(5).toString("hex")).toBe("0202");
  });

  test("a field more and a message more are taken, and code from before has its version again", async () => {
    const name = packageName();
    const before = made(name, "  string text = 1;");
    const after = made(name, "  string text = 1;\n  string more = 2;", "message Another {}");
    const [old, young] = [open(), open()];
    await old.register([before]);
    await young.register([after]);
    expect(await asks(`/subjects/${name}.Made/versions`)).toEqual([1, 2]);
    const again = open();
    await again.register([before]);
    expect(await again.headerOf(`${name}.Made`)).toEqual(await old.headerOf(`${name}.Made`));
    expect(await young.headerOf(`${name}.Made`)).not.toEqual(await old.headerOf(`${name}.Made`));
  });

  test("a schema that readers couldn't follow is refused, and the error names the message, its file and the reason", async () => {
    const name = packageName();
    await open().register([made(name, "  string text = 1;")]);
    await expect(open().register([made(name, "  int64 text = 1;")])).rejects.toThrow(
      new RegExp(`SCHEMA_REGISTRY_URL.*${name}\\.Made.*events\\.proto.*_TRANSITIVE.*type changed`),
    );
    expect(await asks(`/subjects/${name}.Made/versions`)).toEqual([1]);
  });

  test("with `keep` the registry's own rule stays", async () => {
    const name = packageName();
    await open({ compatibility: "keep" }).register([made(name, "  string text = 1;")]);
    expect(await asks(`/config/${name}.Made`)).not.toMatchObject({ compatibilityLevel: SCHEMA_REGISTRY_COMPATIBILITY });
  });

  test("an event that newer code has left is published under the schema that the registry has for it; without one it waits", async () => {
    const name = packageName();
    const ours = open();
    await expect(ours.headerOf(`${name}.Made`)).rejects.toThrow(`no schema of ${name}.Made yet`);
    const newer = open();
    await newer.register([made(name, "  string text = 1;")]);
    expect(await ours.headerOf(`${name}.Made`)).toEqual(await newer.headerOf(`${name}.Made`));
  });

  test("a registry that is away holds up nobody but what is published, and gets the schemas when it is back", async () => {
    const { url, come } = await laterRegistry();
    const name = packageName();
    const { register, headerOf } = open({ url });
    await register([made(name, "  string text = 1;")]);
    await expect(headerOf(`${name}.Made`)).rejects.toThrow(`no schema of ${name}.Made yet`);
    await come();
    await expect.poll(() => headerOf(`${name}.Made`).then(() => "there", String)).toBe("there");
    expect(await asks(`/subjects/${name}.Made/versions`)).toEqual([1]);
  });

  test("a schema that is refused only when the registry is back is told of", async () => {
    const { url, come } = await laterRegistry();
    const name = packageName();
    await open().register([made(name, "  string text = 1;")]);
    const { register, onRefused } = open({ url });
    await register([made(name, "  int64 text = 1;")]);
    await come();
    await expect.poll(() => onRefused.mock.calls.map(([error]) => String(error))).toEqual([expect.stringContaining(`${name}.Made`)]);
  });
});

test("a registry that doesn't let us in is no registry that is away, and the password is in no error", async () => {
  const seen: (string | undefined)[] = [];
  const url = await answering((request, response) => {
    seen.push(request.headers.authorization);
    response.writeHead(401, { "content-type": "application/json" }).end('{"error_code":40101,"message":"Unauthorized"}');
  });
  const { register } = open({ url: url.replace("//", "//some%40body:pass%3Aword@") });
  const error = await register([OrderCreatedSchema]).catch((thrown: unknown) => thrown);
  expect(String(error)).toContain("polis.orders.v1.OrderCreated: it doesn't let us in: Unauthorized");
  expect(String((error as Error).cause)).not.toMatch(/pass/);
  expect(seen).toEqual([`Basic ${Buffer.from("some@body:pass:word").toString("base64")}`]);
});

test.each([
  { status: 200, body: "<html>", said: "something else than JSON" },
  { status: 200, body: "{}", said: "without an id" },
  { status: 404, body: '{"message":"no such path"}', said: "404: no such path" },
  { status: 422, body: '{"error_code":42201,"message":"Invalid schema"}', said: "422: Invalid schema" },
])("what answers $status with $body stops the start", async ({ status, body, said }) => {
  const url = await answering((_, response) => void response.writeHead(status).end(body));
  await expect(open({ url }).register([OrderCreatedSchema])).rejects.toThrow(said);
});

test.each([500, 503, 429])("a registry that answers %d is tried again", async (status) => {
  let failing = true;
  const url = await answering((_, response) => void response.writeHead(failing ? status : 200).end('{"id":7}'));
  const { register, headerOf } = open({ url });
  await register([OrderCreatedSchema]);
  failing = false;
  await expect
    .poll(() => headerOf("polis.orders.v1.OrderCreated").then((header) => Buffer.from(header).toString("hex"), String))
    .toBe("000000000700");
});

test.each([
  { what: "a path that isn't there", status: 404, body: "no such route" },
  { what: "a page", status: 200, body: "<html>" },
  { what: "another way", status: 301, body: "" },
  { what: "JSON of something else", status: 200, body: "[1]" },
])("$what in place of a registry that was away is tried again", async ({ status, body }) => {
  let answer = { status: 503, body: "" };
  const url = await answering((_, response) => void response.writeHead(answer.status, { location: "/elsewhere" }).end(answer.body));
  const { register, headerOf, onRefused } = open({ url });
  await register([OrderCreatedSchema]);
  answer = { status, body };
  await expect.poll(() => headerOf("polis.orders.v1.OrderCreated").then(() => "there", String)).toContain("no schema");
  answer = { status: 200, body: '{"id":7}' };
  await expect.poll(() => headerOf("polis.orders.v1.OrderCreated").then(() => "there", String)).toBe("there");
  expect(onRefused).not.toHaveBeenCalled();
});

test("a file of events that needs another one is refused, since the registry holds whole files", async () => {
  const register = (message: DescMessage): Promise<void> => open({ url: "http://127.0.0.1:9" }).register([message]);
  const money = { "shop/money.proto": 'syntax = "proto3";\npackage shop;\nmessage Money {}\n' };
  const text = 'syntax = "proto3";\npackage shop;\nimport "shop/money.proto";\nmessage Paid {\n  Money money = 1;\n}\n';
  const paid = fileOf("shop/events.proto", text, money).messages[0] as DescMessage;
  await expect(register(paid)).rejects.toThrow("shop.Paid: shop/events.proto needs shop/money.proto");
  const nested = made(packageName(), "  Inner inner = 1;\n  message Inner {}").nestedMessages[0] as DescMessage;
  await expect(register(nested)).rejects.toThrow("can't lie within another");
});
