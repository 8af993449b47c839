import { passingTracer, type Tracer } from "#platform/telemetry/tracing.ts";

type Environment = { readonly [name: string]: string | undefined };

/**
 * Exports spans where OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT says where to; else traces
 * only pass through.
 */
export async function openTracer(environment: Environment): Promise<Tracer> {
  const endpoint = environment.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT ?? environment.OTEL_EXPORTER_OTLP_ENDPOINT;
  if (endpoint === undefined || endpoint === "" || environment.OTEL_SDK_DISABLED?.toLowerCase() === "true") return passingTracer;
  // Loaded only here: the SDK costs start-up time that nobody should pay who doesn't export.
  const { exportingTracer } = await import("#platform/telemetry/exporting-tracer.ts");
  return exportingTracer(environment.OTEL_SERVICE_NAME ?? "polis");
}
