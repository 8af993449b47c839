import { createServer } from "node:http";
import { afterEach, describe, expect, test, vi } from "vitest";
import { LATENCY_BUCKETS_S } from "#platform/telemetry/latency.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";
import { childTraceparent, formatTraceparent, newTraceparent, parseTraceparent } from "#platform/telemetry/trace-context.ts";
import { openTracer, passingTracer } from "#platform/telemetry/tracing.ts";

const TRACE = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN = "00f067aa0ba902b7";
const VALID = `00-${TRACE}-${SPAN}-01`;

describe("a traceparent", () => {
  test("is read and written as W3C has it", () => {
    expect(parseTraceparent(VALID)).toEqual({ traceId: TRACE, spanId: SPAN, sampled: true });
    expect(formatTraceparent({ traceId: TRACE, spanId: SPAN, sampled: false })).toBe(`00-${TRACE}-${SPAN}-00`);
    expect(parseTraceparent(`00-${TRACE}-${SPAN}-fe`)?.sampled).toBe(false);
    // A later version may say more.
    expect(parseTraceparent(`01-${TRACE}-${SPAN}-01-more`)?.traceId).toBe(TRACE);
  });

  test.each([
    undefined,
    "",
    "nonsense",
    `ff-${TRACE}-${SPAN}-01`,
    `00-${"0".repeat(32)}-${SPAN}-01`,
    `00-${TRACE}-${"0".repeat(16)}-01`,
    `00-${TRACE.toUpperCase()}-${SPAN}-01`,
    `${VALID}-more`,
    `${VALID}\n`,
    VALID.slice(0, -1),
  ])("that is malformed is none: %j", (text) => {
    expect(parseTraceparent(text)).toBeUndefined();
    expect(parseTraceparent(childTraceparent(text))).toBeDefined();
    expect(parseTraceparent(passingTracer.start("x", text).traceparent)).toBeDefined();
  });

  test("has children in the same trace, each with a span of its own", () => {
    const children = Array.from({ length: 1000 }, () => parseTraceparent(childTraceparent(VALID)));
    expect(new Set(children.map((child) => child?.traceId))).toEqual(new Set([TRACE]));
    expect(new Set(children.map((child) => child?.spanId)).size).toBe(1000);
    expect(new Set(Array.from({ length: 1000 }, () => newTraceparent())).size).toBe(1000);
  });
});

describe("a tracer", () => {
  const traced = { name: "tested", release: "1.2.3" };
  afterEach(() => {
    vi.unstubAllEnvs();
  });

  test("only passes traces on where nothing says where to export them", async () => {
    for (const environment of [{}, { OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:1", OTEL_SDK_DISABLED: "true" }])
      expect(await openTracer(environment, traced)).toBe(passingTracer);
    expect(passingTracer.start("x", VALID).traceparent).toBe(VALID);
  });

  test("exports spans with their parent, links and outcome where it is told where to", async () => {
    const bodies: string[] = [];
    const collector = createServer((request, response) => {
      request.on("data", (data: Buffer) => bodies.push(data.toString())).on("end", () => response.end("{}"));
    });
    await new Promise<void>((resolve) => collector.listen(0, "127.0.0.1", resolve));
    const { port } = collector.address() as { port: number };
    vi.stubEnv("OTEL_EXPORTER_OTLP_ENDPOINT", `http://127.0.0.1:${port}`);
    const tracer = await openTracer({ ...process.env }, traced);
    const span = tracer.start("work", VALID, { "rpc.method": "Ask" }, [newTraceparent(true), "nonsense"]);
    expect(parseTraceparent(span.traceparent)).toMatchObject({ traceId: TRACE, sampled: true });
    span.end(new Error("of someone's account"));
    tracer.start("not sampled", `00-${TRACE}-${SPAN}-00`).end();
    await tracer.shutdown();
    collector.close();
    const [resourceSpans] = JSON.parse(bodies.join("")).resourceSpans;
    for (const [key, stringValue] of [
      ["service.name", "tested"],
      ["service.version", "1.2.3"],
    ])
      expect(resourceSpans.resource.attributes).toContainEqual({ key, value: { stringValue } });
    const { spans } = resourceSpans.scopeSpans[0];
    expect(spans).toHaveLength(1);
    expect(spans[0]).toMatchObject({ traceId: TRACE, parentSpanId: SPAN, name: "work", status: { code: 2 } });
    expect(spans[0].links).toHaveLength(1);
    expect(bodies.join("")).not.toContain("someone");
  });
});

describe("a latency histogram", () => {
  test("shows what Prometheus expects, cumulated, in one metric for all that ask for it", async () => {
    const metrics = new Metrics();
    const first = metrics.latency("polis_x_seconds", "X.", ["a"]);
    expect(metrics.latency("polis_x_seconds", "X.", ["a"])).toBe(first);
    const recorder = first.recorder({ a: "1" });
    expect(first.recorder({ a: "1" })).toBe(recorder);
    for (const seconds of [0.0005, 0.0006, 0.2, 100]) recorder.observe(seconds);
    const text = await metrics.text();
    expect(text).toContain("# TYPE polis_x_seconds histogram");
    expect(text).toContain('polis_x_seconds_bucket{le="0.0005",a="1"} 1\n');
    expect(text).toContain('polis_x_seconds_bucket{le="0.001",a="1"} 2\n');
    expect(text).toContain('polis_x_seconds_bucket{le="0.25",a="1"} 3\n');
    expect(text).toContain('polis_x_seconds_bucket{le="10",a="1"} 3\n');
    expect(text).toContain('polis_x_seconds_bucket{le="+Inf",a="1"} 4\n');
    expect(text).toContain('polis_x_seconds_count{a="1"} 4\n');
    expect(text.match(/polis_x_seconds_bucket/g)).toHaveLength(LATENCY_BUCKETS_S.length + 1);
  });
});
