import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from "prom-client";

const LATENCY_BUCKETS_S = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

/**
 * The metrics of one process. A part asks for what it measures by name; services that measure the same share one metric and
 * differ by label.
 */
export class Metrics {
  readonly #registry = new Registry();

  /** With `runtime`, Node's own figures (memory, garbage collection, event loop) are collected as well. */
  constructor(options: { runtime?: boolean } = {}) {
    if (options.runtime === true) collectDefaultMetrics({ register: this.#registry, prefix: "polis_" });
  }

  counter<L extends string>(name: string, help: string, labelNames: readonly L[]): Counter<L> {
    return this.#once(name, () => new Counter({ name, help, labelNames: [...labelNames], registers: [this.#registry] }));
  }

  /** Seconds, unless other buckets are given. */
  histogram<L extends string>(name: string, help: string, labelNames: readonly L[], buckets: number[] = LATENCY_BUCKETS_S): Histogram<L> {
    return this.#once(name, () => new Histogram({ name, help, labelNames: [...labelNames], buckets, registers: [this.#registry] }));
  }

  gauge<L extends string>(name: string, help: string, labelNames: readonly L[]): Gauge<L> {
    return this.#once(name, () => new Gauge({ name, help, labelNames: [...labelNames], registers: [this.#registry] }));
  }

  /** The text format of Prometheus. */
  text(): Promise<string> {
    return this.#registry.metrics();
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  #once<M>(name: string, make: () => M): M {
    return (this.#registry.getSingleMetric(name) as M | undefined) ?? make();
  }
}
