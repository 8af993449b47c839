/** Said once a run: which tests are skipped for want of an engine, and how it is had. */
export function setup(): void {
  if (process.env.KAFKA_URL === undefined)
    process.stdout.write("Tests on Kafka are skipped, as KAFKA_URL isn't set: env $(.ci/engines up kafka) npm test\n");
}
