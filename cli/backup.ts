import { backup as backUp } from "#platform/postgres/backup.ts";
import { defineCommand, UsageError } from "./command.ts";
import { dataOption, openSettings } from "./process-settings.ts";

export const backup = defineCommand({
  usage: ["backup FOLDER [--data FOLDER]"],
  text: `
Copies all databases of the embedded PostgreSQL, as of one moment, and the deployment's secret into FOLDER, which it makes. Polis
may run meanwhile. Keep the copy where only you can read it.

  --data FOLDER   the data folder (POLIS_DATA)`,
  options: dataOption,
  async run(flags, [target, ...more]) {
    if (target === undefined || more.length > 0) throw new UsageError("say one folder to back up into");
    const { settings, log } = await openSettings(flags);
    if (settings.postgresUrl !== undefined) throw new Error("POSTGRES_URL is set: back that server up by its own means (pg_basebackup)");
    const { files, stopLsn } = await backUp({ folder: settings.dataFolder, target, log });
    const bytes = files.reduce((sum, file) => sum + file.bytes, 0);
    console.log(`${target}: ${files.length} files, ${(bytes / 1e6).toFixed(0)} MB, as of ${stopLsn}`);
  },
});
