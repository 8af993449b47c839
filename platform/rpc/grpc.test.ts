import { once } from "node:events";
import { connect } from "node:http2";
import { type AddressInfo, connect as connectSocket, createServer, type Socket } from "node:net";
import { create, createFileRegistry, type DescMessage, fromBinary, getOption, type Message, toBinary } from "@bufbuild/protobuf";
import { BinaryReader, BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { FileDescriptorProtoSchema, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { Client, credentials, Metadata, type ServiceError, status } from "@grpc/grpc-js";
import { afterEach, describe, expect, test, vi } from "vitest";
import { ErrorInfoSchema } from "#contracts/google/rpc/error_details_pb.ts";
import { StatusSchema } from "#contracts/google/rpc/status_pb.ts";
import { AnswerSchema, ConformanceService } from "#contracts/polis/conformance/v1/conformance_pb.ts";
import { method as methodOption } from "#contracts/polis/options/v1/options_pb.ts";
import { nobody, userCaller } from "#platform/access/caller.ts";
import { callerTokens } from "#platform/access/caller-token.ts";
import { secretsOf } from "#platform/access/secrets.ts";
import { CallError } from "#platform/rpc/call-error.ts";
import { createClient } from "#platform/rpc/client.ts";
import { conformanceEndpoint } from "#platform/rpc/conformance.testing.ts";
import type { Context } from "#platform/rpc/context.ts";
import { type GrpcServer, startGrpcServer } from "#platform/rpc/grpc-server.ts";
import { type GrpcTransport, grpcTransport } from "#platform/rpc/grpc-transport.ts";

const SECRET = "a secret of at least thirty-two characters";
const SERVICE = "polis.conformance.v1.ConformanceService";
const tokens = callerTokens({ secrets: secretsOf([SECRET]) });
const user = userCaller("01890000-0000-7000-8000-000000000001");
/** As it was before the first call. */
const { stackTraceLimit } = Error;
const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

type Ask = (request: { text: string }, context: Context) => Promise<Message>;

async function start(
  ask: Ask = async ({ text }) => create(AnswerSchema, { text }),
  more: { readonly requestMs?: number; readonly connectionsOfAddressMax?: number } = {},
): Promise<GrpcServer> {
  const server = await startGrpcServer({ endpoints: [conformanceEndpoint({ ask: ask as never })], tokens, port: 0, ...more });
  closing.push(() => server.close({ drainMs: 50 }));
  return server;
}

function transportTo(...addresses: string[]): GrpcTransport {
  const transport = grpcTransport({ addresses, tokens });
  closing.push(() => transport.close());
  return transport;
}

const clientTo = (...addresses: string[]) => createClient(ConformanceService, transportTo(...addresses), { caller: user });

/** A client of grpc-js and nothing of ours: bytes in, bytes out. */
function plainClient(port: number) {
  const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure());
  closing.push(() => client.close());
  const bytes = (value: Uint8Array): Buffer => Buffer.from(value);
  const metadataOf = (headers: Record<string, string>) => {
    const metadata = new Metadata();
    for (const [name, value] of Object.entries(headers)) metadata.add(name, value);
    return metadata;
  };
  return {
    unary: (path: string, request: Uint8Array, headers: Record<string, string> = {}) =>
      new Promise<Buffer>((resolve, reject) => {
        client.makeUnaryRequest(path, bytes, bytes, request, metadataOf(headers), (error, answer) =>
          error === null ? resolve(answer as Buffer) : reject(error),
        );
      }),
    /** Sends one message of a stream both ways, and gives its one answer. */
    exchange: (path: string, request: Uint8Array) =>
      new Promise<Buffer>((resolve, reject) => {
        const stream = client.makeBidiStreamRequest(path, bytes, bytes, new Metadata());
        stream.on("data", resolve).on("error", reject);
        stream.write(request);
        stream.end();
      }),
  };
}

/** Texts and bytes of a message's fields, by number. */
function fieldsOf(bytes: Uint8Array): Map<number, Uint8Array[]> {
  const reader = new BinaryReader(bytes);
  const fields = new Map<number, Uint8Array[]>();
  while (reader.pos < reader.len) {
    const [number, type] = reader.tag();
    if (type === WireType.LengthDelimited) fields.set(number, [...(fields.get(number) ?? []), reader.bytes()]);
    else reader.skip(type);
  }
  return fields;
}

const textField = (number: number, text: string) => new BinaryWriter().tag(number, WireType.LengthDelimited).string(text).finish();
const utf8 = (bytes: Uint8Array | undefined) => Buffer.from(bytes ?? []).toString();
const failure = (call: Promise<unknown>) =>
  call.then(
    () => expect.unreachable("it was answered"),
    (error: ServiceError) => error,
  );

describe("a stranger with a plain gRPC client", () => {
  test.each(["v1", "v1alpha"])("learns the contracts by reflection %s, whole, and can call with a token", async (version) => {
    const { port } = await start();
    const client = plainClient(port);
    const reflect = async (field: number, text: string) =>
      fieldsOf(await client.exchange(`/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`, textField(field, text)));
    const listed = fieldsOf((await reflect(7, "*")).get(6)?.[0] ?? new Uint8Array()).get(1) ?? [];
    expect(listed.map((service) => utf8(fieldsOf(service).get(1)?.[0]))).toEqual([SERVICE, "grpc.health.v1.Health"]);

    // As every such client does: the file of the service, then whatever that imports.
    const files = new Map();
    const learn = async (field: number, text: string): Promise<void> => {
      const answer = fieldsOf((await reflect(field, text)).get(4)?.[0] ?? new Uint8Array());
      for (const bytes of answer.get(1) ?? []) {
        const file = fromBinary(FileDescriptorProtoSchema, bytes);
        files.set(file.name, file);
      }
      for (const file of [...files.values()]) for (const name of file.dependency) if (!files.has(name)) await learn(3, name);
    };
    await learn(4, SERVICE);
    const registry = createFileRegistry(create(FileDescriptorSetSchema, { file: inOrder(files) }));
    const ask = registry.getService(SERVICE)?.method.ask;
    expect(ask).toBeDefined();
    expect(getOption(ask!, methodOption).access?.roles).toEqual(["user"]);
    expect(registry.getExtension("buf.validate.field")).toBeDefined();

    const request = create(ask!.input as DescMessage, { text: "hello" } as never);
    const headers = { authorization: `Bearer ${await tokens.sign(user)}` };
    const answer = fromBinary(ask!.output, await client.unary(`/${SERVICE}/Ask`, toBinary(ask!.input, request), headers));
    expect(answer).toMatchObject({ text: "hello" });
  });

  test("can check health, of the server and of a service", async () => {
    const { port } = await start();
    for (const name of ["", SERVICE]) {
      const answer = await plainClient(port).unary("/grpc.health.v1.Health/Check", textField(1, name));
      // HealthCheckResponse.status = SERVING
      expect([...answer]).toEqual([8, 1]);
    }
  });

  test("can call what is public, and else must say who it is", async () => {
    const { port } = await start();
    expect(utf8(fieldsOf(await plainClient(port).unary(`/${SERVICE}/AskPublic`, textField(1, "hi"))).get(1)?.[0])).toBe("hi");
    expect(await failure(plainClient(port).unary(`/${SERVICE}/Ask`, textField(1, "hi")))).toMatchObject({ code: status.UNAUTHENTICATED });
  });

  test("isn't believed what it says of itself without our key", async () => {
    const { port } = await start();
    const own = await tokens.sign(user);
    const expired = await callerTokens({ secrets: secretsOf([SECRET]), clock: () => Date.now() - 3_600_000 }).sign(user);
    const forged = await callerTokens({ secrets: secretsOf(["another secret of thirty-two characters"]) }).sign(user);
    const [header, payload] = own.split(".");
    for (const authorization of [
      `Bearer ${expired}`,
      `Bearer ${forged}`,
      `Bearer ${header}.${payload}.`,
      "Bearer",
      "Basic dXNlcjpwYXNz",
      own,
    ]) {
      // For what is public as well: a bad token is never nobody's.
      for (const method of ["Ask", "AskPublic"])
        expect(await failure(plainClient(port).unary(`/${SERVICE}/${method}`, textField(1, ""), { authorization }))).toMatchObject({
          code: status.UNAUTHENTICATED,
        });
    }
    const spoofed = { "x-user-id": user.userId, "x-caller": "service:tester" };
    expect(await failure(plainClient(port).unary(`/${SERVICE}/Ask`, textField(1, ""), spoofed))).toMatchObject({
      code: status.UNAUTHENTICATED,
    });
  });

  test("gets errors in the standard's form", async () => {
    const { port } = await start();
    const error = await failure(plainClient(port).unary(`/${SERVICE}/Ask`, new Uint8Array()));
    const details = fromBinary(StatusSchema, error.metadata.get("grpc-status-details-bin")[0] as Buffer);
    expect(details.code).toBe(status.UNAUTHENTICATED);
    expect(details.details[0]?.typeUrl).toBe("type.googleapis.com/google.rpc.ErrorInfo");
    expect(fromBinary(ErrorInfoSchema, details.details[0]!.value)).toMatchObject({ reason: "unauthenticated", domain: "polis" });
  });

  test("is told when its bytes are no message, its message too large, its key no key, its method unknown", async () => {
    const { port } = await start();
    const headers = { authorization: `Bearer ${await tokens.sign(user)}` };
    const call = (method: string, bytes: Uint8Array, more = {}) =>
      failure(plainClient(port).unary(`/${SERVICE}/${method}`, bytes, { ...headers, ...more }));
    expect(await call("Ask", new Uint8Array([0xff, 0xff]))).toMatchObject({ code: status.INVALID_ARGUMENT });
    // No UTF-8.
    expect(await call("Ask", new Uint8Array([10, 1, 0xff]))).toMatchObject({ code: status.INVALID_ARGUMENT });
    expect(await call("Ask", textField(1, "a\0"))).toMatchObject({ code: status.INVALID_ARGUMENT });
    expect(await call("Ask", new Uint8Array(5 * 1024 * 1024))).toMatchObject({ code: status.RESOURCE_EXHAUSTED });
    expect(await call("Ask", new Uint8Array(), { "idempotency-key": "a".repeat(256) })).toMatchObject({ code: status.INVALID_ARGUMENT });
    expect(await call("Nothing", new Uint8Array())).toMatchObject({ code: status.UNIMPLEMENTED });
  });
});

/** A file after what it imports. */
function inOrder(files: Map<string, { name: string; dependency: string[] }>) {
  const ordered: { name: string; dependency: string[] }[] = [];
  const place = (name: string): void => {
    const file = files.get(name);
    if (file === undefined || ordered.includes(file)) return;
    file.dependency.forEach(place);
    ordered.push(file);
  };
  for (const name of files.keys()) place(name);
  return ordered as never[];
}

describe("the way over gRPC", () => {
  test("says unavailable where nobody listens, and not where that was", async () => {
    const port = await freePort();
    const error = await failure(clientTo(`127.0.0.1:${port}`).ask({}));
    expect(error).toBeInstanceOf(CallError);
    expect(error).toMatchObject({ status: "UNAVAILABLE", code: "unavailable" });
    expect(error.message).not.toContain(String(port));
    expect(await failure(clientTo("no-such-host.invalid:1").ask({}))).toMatchObject({ status: "UNAVAILABLE" });
  });

  test("takes a peer that doesn't know our token for one that is away: whoever calls isn't to blame", async () => {
    const { port } = await start();
    const transport = grpcTransport({
      addresses: [`127.0.0.1:${port}`],
      tokens: callerTokens({ secrets: secretsOf([`another ${SECRET}`]) }),
    });
    closing.push(() => transport.close());
    const client = createClient(ConformanceService, transport, { caller: user });
    const cause = { message: expect.stringContaining("POLIS_SECRET") };
    for (const ask of [() => client.ask({}), () => client.listen({})[Symbol.asyncIterator]().next()]) {
      const error = await failure(ask());
      expect(error).toMatchObject({ status: "UNAVAILABLE", code: "unavailable", cause });
      expect(error.message).not.toContain("POLIS_SECRET");
    }
  });

  test("leaves errors their stacks, whether a call has failed or couldn't even be started", async () => {
    const transport = transportTo("127.0.0.1:1");
    const client = createClient(ConformanceService, transport, { caller: user });
    expect(await failure(client.ask({}))).toMatchObject({ status: "UNAVAILABLE" });
    transport.close();
    await failure(client.ask({}));
    expect(Error.stackTraceLimit).toBe(stackTraceLimit);
  });

  test("finds its service again after that was away", async () => {
    const first = await start();
    const client = clientTo(`127.0.0.1:${first.port}`);
    await client.ask({});
    await first.close();
    expect(await failure(client.ask({}))).toMatchObject({ status: "UNAVAILABLE" });
    const endpointAgain = await restart(first.port);
    await vi.waitFor(async () => expect((await client.ask({ text: "again" })).text).toBe("again"), { timeout: 5000, interval: 50 });
    expect(endpointAgain.port).toBe(first.port);
  });

  test("takes turns over several addresses, and passes by one that is dead", async () => {
    const served = [0, 0];
    const servers = await Promise.all(
      served.map((_, index) =>
        start(async () => {
          served[index] = (served[index] ?? 0) + 1;
          return create(AnswerSchema);
        }),
      ),
    );
    const client = clientTo(`127.0.0.1:${await freePort()}`, ...servers.map(({ port }) => `localhost:${port}`));
    await vi.waitFor(
      async () => {
        await client.ask({});
        expect(Math.min(...served)).toBeGreaterThan(5);
      },
      { timeout: 5000, interval: 1 },
    );
  });

  test("gives up a peer that takes a connection and says nothing, and finds the one that comes in its place", async () => {
    const mute = createServer().listen(0, "127.0.0.1");
    const taken: Socket[] = [];
    mute.on("connection", (socket) => void taken.push(socket.resume()));
    await once(mute, "listening");
    const { port } = mute.address() as AddressInfo;
    const transport = grpcTransport({ addresses: [`127.0.0.1:${port}`], tokens, greetingMs: 200 });
    closing.push(() => transport.close());
    const client = createClient(ConformanceService, transport, { caller: user });
    expect(await failure(client.ask({}, { timeoutMs: 5_000 }))).toMatchObject({ status: "UNAVAILABLE" });
    // By us: the peer closes nothing.
    await vi.waitFor(() => expect(taken[0]?.closed).toBe(true));
    for (const socket of taken) socket.destroy();
    mute.close();
    await once(mute, "close");
    await restart(port);
    await vi.waitFor(async () => expect((await client.ask({ text: "there" })).text).toBe("there"), { timeout: 5_000 });
  });

  test("refuses an address that is none", () => {
    for (const address of ["", "orders", "orders:", "http://orders:50051", "orders:x"])
      expect(() => grpcTransport({ addresses: [address], tokens })).toThrow("host:port");
    expect(() => grpcTransport({ addresses: [], tokens })).toThrow("at least one");
  });

  test("doesn't need a token for nobody", async () => {
    const { port } = await start();
    const client = createClient(ConformanceService, transportTo(`127.0.0.1:${port}`), { caller: nobody });
    expect((await client.askPublic({ text: "x" })).text).toBe("x");
  });
});

describe("a stranger that keeps its request back", () => {
  /** A call of which the head comes, and of its message no more than the beginning. */
  const begun = (port: number, method: string, sent = Buffer.from([0, 0, 0, 1, 0]), headers: Record<string, string> = {}) => {
    const session = connect(`http://127.0.0.1:${port}`);
    closing.push(() => session.destroy());
    return (cancelling = new AbortController()) => {
      const head = {
        ":method": "POST",
        ":path": method.startsWith("/") ? method : `/${SERVICE}/${method}`,
        "content-type": "application/grpc",
        te: "trailers",
        ...headers,
      };
      const stream = session.request(head, { signal: cancelling.signal });
      stream.on("error", () => {});
      stream.write(sent);
      const ended = new Promise<number>((resolve) => {
        for (const event of ["response", "trailers"] as const)
          stream.on(event, (told: Record<string, unknown>) => {
            if (told["grpc-status"] !== undefined) resolve(Number(told["grpc-status"]));
          });
      });
      stream.resume();
      return ended;
    };
  };

  test("is refused by what its head says where it must say who it is", async () => {
    const { port } = await start();
    expect(await begun(port, "Ask")()).toBe(status.UNAUTHENTICATED);
  });

  test("has some seconds for what is public, as one of a few", async () => {
    const { port } = await start(undefined, { requestMs: 300 });
    const open = begun(port, "AskPublic");
    const answers = await Promise.all(Array.from({ length: 20 }, () => open()));
    const counted = (code: status) => answers.filter((answer) => answer === code).length;
    expect({ late: counted(status.DEADLINE_EXCEEDED), refused: counted(status.UNAVAILABLE) }).toEqual({ late: 16, refused: 4 });
    expect(utf8(fieldsOf(await plainClient(port).unary(`/${SERVICE}/AskPublic`, textField(1, "hi"))).get(1)?.[0])).toBe("hi");
  });

  test("is none of the few any more once it has cancelled", async () => {
    const { port } = await start();
    const cancelling = new AbortController();
    const open = begun(port, "AskPublic");
    const ask = () => plainClient(port).unary(`/${SERVICE}/AskPublic`, textField(1, "hi"));
    for (let n = 0; n < 16; n++) void open(cancelling);
    await vi.waitFor(async () => expect(await failure(ask())).toMatchObject({ code: status.UNAVAILABLE }), 5_000);
    cancelling.abort();
    await vi.waitFor(async () => expect(utf8(fieldsOf(await ask()).get(1)?.[0])).toBe("hi"), 5_000);
  });

  test.each([
    ["in the time that it gave itself", { "grpc-timeout": "50m" }, Buffer.from([0, 0, 0, 1, 0]), status.DEADLINE_EXCEEDED],
    ["and began a message that is too large", {}, Buffer.from([0, 0x7f, 0, 0, 0]), status.RESOURCE_EXHAUSTED],
  ] as const)("is none of the few any more once it was told that it failed, %s", async (_, headers, sent, code) => {
    const { port } = await start();
    const open = begun(port, "AskPublic", sent, headers);
    for (const turn of ["first", "second"])
      expect(new Set(await Promise.all(Array.from({ length: 16 }, () => open()))), turn).toEqual(new Set([code]));
  });

  test("has no more of them for the rest, where it sends a message and doesn't end", async () => {
    const { port } = await start(undefined, { requestMs: 300 });
    const whole = Buffer.from([0, 0, 0, 0, 0]);
    for (const path of ["/grpc.health.v1.Health/Check", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"])
      expect(await begun(port, path, whole)(), path).toBe(status.DEADLINE_EXCEEDED);
  });

  test("is as anybody, who may call, and doesn't", async () => {
    const { port } = await start(undefined, { requestMs: 300 });
    const authorization = `Bearer ${await tokens.sign(user)}`;
    expect(await begun(port, "Ask", undefined, { authorization })()).toBe(status.DEADLINE_EXCEEDED);
  });
});

test("one address can't have all connections; who has one is still answered", async () => {
  const { port } = await start(undefined, { connectionsOfAddressMax: 3 });
  const client = clientTo(`127.0.0.1:${port}`);
  expect((await client.ask({ text: "first" })).text).toBe("first");
  const sockets = Array.from({ length: 4 }, () => connectSocket(port, "127.0.0.1"));
  closing.push(() => sockets.forEach((socket) => void socket.destroy()));
  const ended = sockets.map((socket) =>
    once(
      socket.on("error", () => undefined),
      "close",
    ),
  );
  await Promise.race(ended);
  await vi.waitFor(() => expect(sockets.filter(({ destroyed }) => destroyed)).toHaveLength(2));
  expect((await client.ask({ text: "still" })).text).toBe("still");
  for (const socket of sockets) socket.destroy();
  await vi.waitFor(async () => expect((await clientTo(`127.0.0.1:${port}`).ask({ text: "room again" })).text).toBe("room again"));
});

describe("a server that closes", () => {
  test("answers what runs, and takes nothing new", async () => {
    const going = Promise.withResolvers<void>();
    const begun = Promise.withResolvers<void>();
    const server = await start(async () => {
      begun.resolve();
      await going.promise;
      return create(AnswerSchema, { text: "in time" });
    });
    const client = clientTo(`127.0.0.1:${server.port}`);
    const running = client.ask({});
    await begun.promise;
    const closed = server.close({ drainMs: 5000 });
    await vi.waitFor(async () =>
      expect(await failure(clientTo(`127.0.0.1:${server.port}`).ask({}))).toMatchObject({ status: "UNAVAILABLE" }),
    );
    going.resolve();
    expect((await running).text).toBe("in time");
    await closed;
  });

  test("doesn't wait for who watches its health, and tells them that it goes", async () => {
    const server = await start();
    const client = new Client(`127.0.0.1:${server.port}`, credentials.createInsecure());
    closing.push(() => client.close());
    const bytes = (value: Uint8Array): Buffer => Buffer.from(value);
    const watch = client.makeServerStreamRequest("/grpc.health.v1.Health/Watch", bytes, bytes, Buffer.alloc(0));
    const told: number[][] = [];
    watch.on("data", (answer: Buffer) => void told.push([...answer])).on("error", () => {});
    await vi.waitFor(() => expect(told).toEqual([[8, 1]]));
    const ended = once(watch, "status");
    await server.close({ drainMs: 60_000 });
    // HealthCheckResponse.status = NOT_SERVING; then the stream ends by itself, and isn't cut off.
    expect([(await ended)[0].code, told.at(-1)]).toEqual([status.OK, [8, 2]]);
  });

  test("ends what takes too long, and tells its handler", async () => {
    let signal: AbortSignal | undefined;
    const server = await start((_request, context) => {
      signal = context.signal;
      return new Promise(() => {});
    });
    // Of a client that gives up neither a call nor a connection by itself.
    const running = failure(
      plainClient(server.port).unary(`/${SERVICE}/Ask`, textField(1, ""), { authorization: `Bearer ${await tokens.sign(user)}` }),
    );
    await vi.waitFor(() => expect(signal).toBeDefined());
    await server.close({ drainMs: 30 });
    // Whichever of the two frames comes first; both say: try again.
    expect([status.UNAVAILABLE, status.CANCELLED]).toContain((await running).code);
    await vi.waitFor(() => expect(signal?.aborted).toBe(true));
  });

  test("refuses a port that is taken, when it starts", async () => {
    const { port } = await start();
    await expect(restart(port)).rejects.toThrow(/EADDRINUSE|address/i);
  });
});

async function restart(port: number): Promise<GrpcServer> {
  const server = await startGrpcServer({ endpoints: [conformanceEndpoint()], tokens, port });
  closing.push(() => server.close({ drainMs: 50 }));
  return server;
}

/** A port where nobody listens. */
const freePort = (): Promise<number> =>
  new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
