// `npm run check`: all that CI asks of the code beyond its tests. Every check runs, so that one run tells all there is to mend;
// `npm run check -- lint types` runs those alone.
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { performance } from "node:perf_hooks";

const root = join(import.meta.dirname, "..");

/** Each with the script that runs it, under this Node, and what to do where it fails. */
const checks: Readonly<Record<string, { readonly run: readonly string[]; readonly mend: string }>> = {
  types: { run: ["node_modules/typescript/bin/tsc", "-p", "."], mend: "npm run types" },
  lint: { run: ["node_modules/@biomejs/biome/bin/biome", "check", "--error-on-warnings", "."], mend: "npm run format, then npm run lint" },
  generated: { run: ["contracts/generate.ts", "--check"], mend: "npm run contracts" },
  contracts: { run: [".ci/check-contracts.ts"], mend: "edit the .proto files that are named" },
  unused: { run: ["node_modules/knip/bin/knip.js", "--treat-config-hints-as-errors"], mend: "remove what nothing uses" },
};

const asked = process.argv.slice(2);
const unknown = asked.filter((name) => checks[name] === undefined);
if (unknown.length > 0) {
  console.error(`There is no check ${unknown.join(", ")}; there are ${Object.keys(checks).join(", ")}.`);
  process.exit(2);
}
const failed = Object.entries(checks)
  .filter(([name]) => asked.length === 0 || asked.includes(name))
  .filter(([name, { run, mend }]) => {
    const startedMs = performance.now();
    const { status } = spawnSync(process.execPath, run, { cwd: root, stdio: "inherit" });
    const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
    console.log(status === 0 ? `✓ ${name} (${seconds} s)` : `✗ ${name} FAILED (${seconds} s): ${mend}`);
    return status !== 0;
  });
process.exitCode = failed.length > 0 ? 1 : 0;
