/** Engines of .ci/engines, and the setting that says that one is there. */
const SETTINGS = {
  kafka: "KAFKA_URL",
  registry: "SCHEMA_REGISTRY_URL",
  rabbitmq: "RABBITMQ_URL",
  redis: "REDIS_URL",
  pgbouncer: "POSTGRES_DIRECT_URL",
} as const;

export type EngineName = keyof typeof SETTINGS;

/** Those of which the environment says nothing. */
export const missingEngines = (needed: readonly EngineName[]): EngineName[] =>
  needed.filter((name) => process.env[SETTINGS[name]] === undefined);

/** What is skipped for want of them, and how they are had. */
export const skippedFor = (what: string, missing: readonly EngineName[], command: string): string =>
  `${what}: skipped, as the settings of ${missing.join(", ")} are missing: env $(.ci/engines up ${missing.join(" ")}) ${command}`;

/** Said once a run. */
export function setup(): void {
  const missing = missingEngines(["kafka", "registry", "rabbitmq", "redis"]);
  if (missing.length > 0) process.stdout.write(`${skippedFor("tests on engines", missing, "npm test")}\n`);
}
