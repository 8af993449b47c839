import { EVENTS_DATABASE, KV_DATABASE } from "#platform/config/platform-settings.ts";
import { openDatabases } from "#platform/process/databases.ts";
import { eventMigrations } from "#platform/process/event-log.ts";
import { migrationsOf } from "#platform/process/host-service.ts";
import { kvMigrations, usesKeyValueStore } from "#platform/process/key-value-store.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";
import { chooseServices } from "./choose-services.ts";
import { defineCommand, noPositionals } from "./command.ts";
import { dataOption, openSettings } from "./process-settings.ts";
import { release } from "./release.ts";
import { systems } from "./systems.ts";

export const migrate = defineCommand({
  usage: ["migrate [--system NAME | --services NAME,NAME…] [--data FOLDER]"],
  text: `
Makes the databases that are missing, brings all of them to this release, and ends. \`polis start\` does the same for those that
it opens; run this first where the processes that start may not change tables.

  --system NAME     the services of this system; all systems unless said
  --services A,B    just these
  --data FOLDER     the data folder (POLIS_DATA)`,
  options: { ...dataOption, system: { type: "string" }, services: { type: "string" } },
  async run({ system, services, ...flags }, positionals) {
    noPositionals(positionals);
    const chosen = chooseServices(systems, { system, names: services });
    const { settings, log } = await openSettings(flags);
    const databases = await openDatabases({
      settings,
      release,
      log,
      metrics: new Metrics(),
      onLost(error) {
        log.fatal({ err: error }, "can't go on");
        process.exit(1);
      },
    });
    try {
      const sets = [
        ...(settings.kafka.url === undefined ? [[EVENTS_DATABASE, eventMigrations] as const] : []),
        ...(chosen.edge !== undefined || usesKeyValueStore(chosen.services) ? [[KV_DATABASE, kvMigrations] as const] : []),
        ...chosen.services.map((service) => [service.name, migrationsOf(service)] as const),
      ];
      for (const [name, migrations] of sets) {
        const database = await databases.open(name, migrations);
        log.info({ database: database.name, release }, "migrated");
        await database.close();
      }
    } finally {
      await databases.stop();
    }
  },
});
