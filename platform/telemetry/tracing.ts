import { newTraceparent, parseTraceparent } from "#platform/telemetry/trace-context.ts";

export type SpanAttributes = { readonly [name: string]: string | number | boolean };

/** One piece of work in a trace. */
export type Span = {
  /** What is handed to the work's own calls. */
  readonly traceparent: string;
  /** Ends the span; with an error it is marked as failed. */
  end(error?: unknown): void;
};

export type Tracer = {
  /** Starts a span under `parent`; where that is missing or malformed, a new trace. `links` are traceparents, malformed ones are left out. */
  start(name: string, parent: string | undefined, attributes?: SpanAttributes, links?: readonly string[]): Span;
  /** Sends what is still waiting. */
  shutdown(): Promise<void>;
};

/** What stands in for a span where nothing is exported: it hands its parent's context on, or makes one when somebody asks. */
class UnrecordedSpan implements Span {
  #traceparent: string | undefined;
  readonly #parent: string | undefined;

  constructor(parent: string | undefined) {
    this.#parent = parent;
  }

  get traceparent(): string {
    this.#traceparent ??= parseTraceparent(this.#parent) === undefined ? newTraceparent() : (this.#parent as string);
    return this.#traceparent;
  }

  end(): void {}
}

/** Records nothing; traces pass through. */
export const passingTracer: Tracer = {
  start: (_name, parent) => new UnrecordedSpan(parent),
  shutdown: async () => {},
};

type Environment = { readonly [name: string]: string | undefined };

/** Who a process is in traces. */
export type TracedProcess = {
  /** Unless OTEL_SERVICE_NAME says another. */
  readonly name: string;
  readonly release: string;
};

/**
 * Exports spans where OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT says where to; else traces
 * only pass through.
 */
export async function openTracer(environment: Environment, traced: TracedProcess): Promise<Tracer> {
  const endpoint = environment.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT ?? environment.OTEL_EXPORTER_OTLP_ENDPOINT;
  if (endpoint === undefined || endpoint === "" || environment.OTEL_SDK_DISABLED?.toLowerCase() === "true") return passingTracer;
  // Loaded only here: the SDK costs start-up time that nobody should pay who doesn't export.
  const { exportingTracer } = await import("#platform/telemetry/exporting-tracer.ts");
  return exportingTracer({ ...traced, name: environment.OTEL_SERVICE_NAME || traced.name });
}
