import { settingPrefixes } from "#platform/config/platform-settings.ts";
import { describeSettings, readSettings, unknownSettings } from "#platform/config/settings.ts";
import { defineCommand, noPositionals } from "./command.ts";
import { settingOptions } from "./process-settings.ts";
import { settingsTable } from "./systems.ts";

export const config = defineCommand({
  usage: ["config [--json]"],
  text: `
Lists every setting: its name, its value now and where that comes from, its default, what it is. Secrets are masked. Ends with
exit code 2, naming every fault, where a value can't be read.

  --json        an object a line instead of a table
  --port, --grpc-port, --host, --data   as for \`polis start\``,
  options: { ...settingOptions, json: { type: "boolean", default: false } },
  async run({ json, ...flags }, positionals) {
    noPositionals(positionals);
    const lines = describeSettings(process.env, settingsTable, flags);
    const rows = lines.map(({ name, value, from, default: normal, text }) => [name, value, from, normal, text]);
    for (const line of json ? lines.map((each) => JSON.stringify(each)) : table(rows)) console.log(line);
    for (const message of unknownSettings(process.env, settingsTable, settingPrefixes)) console.error(message);
    readSettings(process.env, settingsTable, flags);
  },
});

function table(rows: readonly (readonly string[])[]): string[] {
  const all = [["NAME", "VALUE", "FROM", "DEFAULT", "WHAT IT IS"], ...rows];
  const widths = all[0]?.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0))) ?? [];
  return all.map((row) => row.map((cell, column) => (column === row.length - 1 ? cell : cell.padEnd(widths[column] ?? 0))).join("  "));
}
