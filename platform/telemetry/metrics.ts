import { Counter, collectDefaultMetrics, Gauge, Histogram, type Metric, Registry } from "prom-client";
import { LATENCY_BUCKETS_S, LatencyHistogram } from "#platform/telemetry/latency.ts";

/**
 * The metrics of one process. A part asks for what it measures by name; services that measure the same share one metric and
 * differ by label.
 */
export class Metrics {
  readonly #registry = new Registry();
  readonly #measuring = new Set<() => void>();
  #text: Promise<string> | undefined;

  /** With `runtime`, Node's own figures (memory, garbage collection, event loop) are collected as well. */
  constructor(options: { runtime?: boolean } = {}) {
    if (options.runtime === true) collectDefaultMetrics({ register: this.#registry, prefix: "polis_" });
  }

  counter<L extends string>(name: string, help: string, labelNames: readonly L[]): Counter<L> {
    return this.#once(name, () => new Counter({ name, help, labelNames: [...labelNames], registers: [this.#registry] }));
  }

  /** Seconds, unless other buckets are given. */
  histogram<L extends string>(
    name: string,
    help: string,
    labelNames: readonly L[],
    buckets: readonly number[] = LATENCY_BUCKETS_S,
  ): Histogram<L> {
    return this.#once(
      name,
      () => new Histogram({ name, help, labelNames: [...labelNames], buckets: [...buckets], registers: [this.#registry] }),
    );
  }

  /** Seconds; a histogram for what is measured with every call. */
  latency<L extends string>(name: string, help: string, labelNames: readonly L[]): LatencyHistogram<L> {
    return this.#once(name, () => {
      const histogram = new LatencyHistogram(name, help, labelNames);
      this.#registry.registerMetric(histogram as unknown as Metric);
      return histogram;
    });
  }

  gauge<L extends string>(name: string, help: string, labelNames: readonly L[]): Gauge<L> {
    return this.#once(name, () => new Gauge({ name, help, labelNames: [...labelNames], registers: [this.#registry] }));
  }

  /** Has gauges set just before they are read: for what changes more often than anybody looks. Ends when the answer is called. */
  measureWhenRead(measure: () => void): () => void {
    this.#measuring.add(measure);
    return () => void this.#measuring.delete(measure);
  }

  /** The text format of Prometheus; who asks while it is made gets the same one. */
  text(): Promise<string> {
    this.#text ??= this.#read().finally(() => {
      this.#text = undefined;
    });
    return this.#text;
  }

  async #read(): Promise<string> {
    for (const measure of this.#measuring) measure();
    return this.#registry.metrics();
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  #once<M>(name: string, make: () => M): M {
    return (this.#registry.getSingleMetric(name) as M | undefined) ?? make();
  }
}
