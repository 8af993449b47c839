import { restore as restoreFrom } from "#platform/postgres/backup.ts";
import { defineCommand, UsageError } from "./command.ts";
import { dataOption, openSettings } from "./process-settings.ts";

export const restore = defineCommand({
  usage: ["restore FOLDER [--data FOLDER]"],
  text: `
Makes a data folder from the backup in FOLDER, after checking each of its files; the next \`polis start\` on it goes on from there.
The data folder must be empty, or not be there.

  --data FOLDER   the data folder (POLIS_DATA)`,
  options: dataOption,
  async run(flags, [source, ...more]) {
    if (source === undefined || more.length > 0) throw new UsageError("say the one folder that holds the backup");
    const { settings } = await openSettings(flags);
    const { finishedAt, files } = await restoreFrom({ source, folder: settings.dataFolder });
    console.log(`${settings.dataFolder}: ${files.length} files, as of ${finishedAt}`);
  },
});
