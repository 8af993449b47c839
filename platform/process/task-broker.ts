import { engineTls } from "#platform/config/certificates.ts";
import type { PlatformSettings } from "#platform/config/platform-settings.ts";
import type { EventTimings } from "#platform/events/timings.ts";
import type { TaskBroker } from "#platform/tasks/broker.ts";
import type { Log } from "#platform/telemetry/log.ts";
import type { Metrics } from "#platform/telemetry/metrics.ts";

/** What carries tasks to workers: RabbitMQ where RABBITMQ_URL says where it is; undefined where they are taken from PostgreSQL. */
export async function openTaskBroker(options: {
  readonly settings: PlatformSettings;
  readonly logger: Log;
  readonly metrics: Metrics;
  readonly timings: EventTimings;
}): Promise<TaskBroker | undefined> {
  const { settings, logger, metrics, timings } = options;
  const { url, prefix = "", ...files } = settings.rabbit;
  if (url === undefined) return undefined;
  // A client is loaded only where its engine is used.
  const { openRabbitBroker } = await import("#platform/tasks/rabbit-broker.ts");
  const tls = await engineTls("RABBITMQ", { tls: url.tls, scheme: "amqps" }, files);
  return openRabbitBroker({ connection: { url, tls, prefix }, logger, metrics, partingMs: timings.partingMs });
}
