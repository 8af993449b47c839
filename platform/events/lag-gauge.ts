import type { Gauge } from "prom-client";
import type { Metrics } from "#platform/telemetry/metrics.ts";

/** What the partitions that this process holds have still before them. */
export const lagGauge = (metrics: Metrics): Gauge<"group" | "topic" | "partition"> =>
  metrics.gauge("polis_consumer_lag_events", "Events that a group has still before it", ["group", "topic", "partition"]);
