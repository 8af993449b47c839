/** The setting that says where an engine is, and the name under which .ci/engines knows it. */
const ENGINES = { KAFKA_URL: "kafka", SCHEMA_REGISTRY_URL: "registry" };

/** Said once a run: which tests are skipped for want of an engine, and how it is had. */
export function setup(): void {
  const missing = Object.entries(ENGINES).filter(([setting]) => process.env[setting] === undefined);
  if (missing.length === 0) return;
  const names = missing.map(([, name]) => name).join(" ");
  process.stdout.write(
    `Tests on ${names.replace(" ", " and ")} are skipped, as their settings are missing: env $(.ci/engines up ${names}) npm test\n`,
  );
}
