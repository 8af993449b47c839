import { randomUUID } from "node:crypto";
import { type Attributes, type Link, ROOT_CONTEXT, type SpanContext, SpanStatusCode, TraceFlags, trace } from "@opentelemetry/api";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-http";
import { defaultResource, detectResources, envDetector, resourceFromAttributes } from "@opentelemetry/resources";
import { BasicTracerProvider, BatchSpanProcessor } from "@opentelemetry/sdk-trace-base";
import { formatTraceparent, parseTraceparent } from "#platform/telemetry/trace-context.ts";

/**
 * A tracer that exports over OTLP/HTTP. Where to, how often, and which traces (OTEL_TRACES_SAMPLER, by default those that
 * the caller samples, and all that begin here) the SDK reads from the OTEL_* variables of the process by itself.
 */
export function exportingTracer({ name, release }: { readonly name: string; readonly release: string }) {
  const provider = new BasicTracerProvider({
    resource: defaultResource()
      .merge(
        resourceFromAttributes({
          "service.namespace": "polis",
          "service.name": name,
          "service.version": release,
          "service.instance.id": randomUUID(),
        }),
      )
      .merge(detectResources({ detectors: [envDetector] })),
    spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter())],
  });
  const tracer = provider.getTracer("polis");
  return {
    start(name: string, parent: string | undefined, attributes: Attributes = {}, links: readonly string[] = []) {
      const parentContext = spanContext(parent);
      const span = tracer.startSpan(
        name,
        { attributes, links: links.flatMap(linkTo) },
        parentContext === undefined ? ROOT_CONTEXT : trace.setSpanContext(ROOT_CONTEXT, parentContext),
      );
      const { traceId, spanId, traceFlags } = span.spanContext();
      return {
        traceparent: formatTraceparent({ traceId, spanId, sampled: (traceFlags & TraceFlags.SAMPLED) !== 0 }),
        end(error?: unknown) {
          // The error's name and no more: its message may hold what is personal.
          if (error !== undefined) span.setStatus({ code: SpanStatusCode.ERROR, message: labelOf(error) });
          span.end();
        },
      };
    },
    shutdown: () => provider.shutdown(),
  };
}

function spanContext(traceparent: string | undefined): SpanContext | undefined {
  const context = parseTraceparent(traceparent);
  if (context === undefined) return undefined;
  const { traceId, spanId, sampled } = context;
  return { traceId, spanId, traceFlags: sampled ? TraceFlags.SAMPLED : TraceFlags.NONE, isRemote: true };
}

const linkTo = (traceparent: string): Link[] => {
  const context = spanContext(traceparent);
  return context === undefined ? [] : [{ context }];
};

const labelOf = (error: unknown): string => {
  if (!(error instanceof Error)) return "error";
  return "code" in error && typeof error.code === "string" ? error.code : error.name;
};
