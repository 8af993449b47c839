import { clone, create, createFileRegistry, type DescFile, type DescService, getOption, setExtension } from "@bufbuild/protobuf";
import { type FileDescriptorProto, FileDescriptorProtoSchema, FileDescriptorSetSchema, MethodOptionsSchema } from "@bufbuild/protobuf/wkt";
import { pino } from "pino";
import { describe, expect, test, vi } from "vitest";
import { AnswerSchema, ConformanceService } from "#contracts/polis/conformance/v1/conformance_pb.ts";
import { type Method, Method_Idempotency, MethodSchema, method as methodOption } from "#contracts/polis/options/v1/options_pb.ts";
import { userCaller } from "#platform/access/caller.ts";
import { createClient } from "#platform/rpc/client.ts";
import { defineEndpoint, type Handlers } from "#platform/rpc/endpoint.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";
import { passingTracer } from "#platform/telemetry/tracing.ts";

const lines: { level: number; msg: string }[] = [];
const tools = {
  metrics: new Metrics(),
  tracer: passingTracer,
  log: pino({ level: "trace" }, { write: (line: string) => void lines.push(JSON.parse(line)) }),
};
const handlersOf = (service: DescService): Handlers<typeof ConformanceService> =>
  Object.fromEntries(service.methods.map(({ localName }) => [localName, async () => create(AnswerSchema)])) as never;

/** The test contract with some methods' options changed. */
function changed(changes: Record<string, (options: Method) => Method | undefined>): typeof ConformanceService {
  const file = clone(FileDescriptorProtoSchema, ConformanceService.file.proto);
  for (const method of file.service[0]?.method ?? []) {
    const change = changes[method.name];
    if (change === undefined) continue;
    const desc = ConformanceService.methods.find(({ name }) => name === method.name)!;
    const options = create(MethodOptionsSchema);
    const said = change(clone(MethodSchema, getOption(desc, methodOption)));
    if (said !== undefined) setExtension(options, methodOption, said);
    method.options = options;
  }
  const files: FileDescriptorProto[] = [];
  const collect = (dependency: DescFile): void => {
    dependency.dependencies.forEach(collect);
    if (!files.some(({ name }) => name === dependency.proto.name)) files.push(dependency.proto);
  };
  ConformanceService.file.dependencies.forEach(collect);
  const registry = createFileRegistry(create(FileDescriptorSetSchema, { file: [...files, file] }));
  return registry.getService(ConformanceService.typeName) as typeof ConformanceService;
}

describe("an endpoint", () => {
  test("isn't made with a method without a handler, or a handler without a method, and says so of all", () => {
    const { ask: _, tell: __, ...handlers } = { ...handlersOf(ConformanceService), askk: async () => create(AnswerSchema) };
    expect(() => defineEndpoint(ConformanceService, handlers as never, tools)).toThrow(
      /ConformanceService\/Ask: has no handler[\s\S]*\/Tell: has no handler[\s\S]*no method for the handler askk/,
    );
  });

  test("isn't made from a contract that leaves out what has no default, and says so of all", () => {
    const service = changed({
      Ask: () => undefined,
      Change: (options) => ({ ...options, idempotency: Method_Idempotency.UNSPECIFIED }),
      AskPublic: (options) => ({ ...options, access: { ...options.access!, public: false } }),
      GetOwned: (options) => ({ ...options, access: { ...options.access!, owner: "owner.nobody" } }),
      Listen: (options) => ({ ...options, access: { ...options.access!, owner: "text" } }),
    });
    expect(() => defineEndpoint(service, handlersOf(service), tools)).toThrow(
      /\/Ask: option[\s\S]*\/Change: `idempotency`[\s\S]*\/GetOwned: `owner`: [\s\S]*\/AskPublic: `access` lets nobody in[\s\S]*\/Listen: `owner` is for unary/,
    );
  });

  test("is made from the contract as it is", () => {
    expect(defineEndpoint(ConformanceService, handlersOf(ConformanceService), tools).name).toBe("conformance");
  });

  test("says to the log what fails after its caller was let go, and nothing to anybody else", async () => {
    const failing = Promise.withResolvers<never>();
    const handlers = { ...handlersOf(ConformanceService), ask: () => failing.promise };
    const client = createClient(ConformanceService, defineEndpoint(ConformanceService, handlers, tools), { caller: userCaller("x") });
    await expect(client.ask({}, { timeoutMs: 20 })).rejects.toMatchObject({ code: "deadline_exceeded" });
    lines.length = 0;
    failing.reject(new Error("too late"));
    await vi.waitFor(() => expect(lines.map(({ msg }) => msg)).toEqual(["a call failed after its caller was let go"]));
  });

  test("keeps deadlines apart: many at once, near and far, each let go in its time and none of the others", async () => {
    const handlers = { ...handlersOf(ConformanceService), ask: () => new Promise<never>(() => {}) };
    const client = createClient(ConformanceService, defineEndpoint(ConformanceService, handlers, tools), { caller: userCaller("x") });
    const far = client.ask({}, { timeoutMs: 60_000 * 60 * 24 * 60, signal: AbortSignal.timeout(300) }).catch((error) => error);
    const begun = Date.now();
    const near = await Promise.all(
      Array.from({ length: 200 }, (_, index) => {
        const timeoutMs = ((index * 37) % 200) + 1;
        return client.ask({}, { timeoutMs }).catch((error) => ({ status: error.status, lateMs: Date.now() - begun - timeoutMs }));
      }),
    );
    for (const end of near as { status: string; lateMs: number }[]) {
      expect(end.status).toBe("DEADLINE_EXCEEDED");
      expect(end.lateMs).toBeGreaterThanOrEqual(-1);
      expect(end.lateMs).toBeLessThan(150);
    }
    expect(await far).toMatchObject({ status: "CANCELLED" });
  });
});
