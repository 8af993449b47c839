import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const root = join(import.meta.dirname, "..");
const restricted = "lint/style/noRestrictedImports";
const cycle = "lint/suspicious/noImportCycles";

/** What breaks a rule, why, and the file that does: path and text. */
const violations: readonly (readonly [string, string, string, string])[] = [
  ["a service imports another", restricted, "services/orders/a.ts", 'import { one } from "../payments/one.ts";\nconsole.info(one);'],
  [
    "a service imports another's types",
    restricted,
    "services/orders/b.ts",
    'import type { One } from "../payments/one.ts";\nexport type B = One;',
  ],
  ["a service imports another while it runs", restricted, "services/orders/c.ts", 'export const c = () => import("../payments/one.ts");'],
  ["a service hands on another's", restricted, "services/orders/d.ts", 'export { one } from "../payments/one.ts";'],
  [
    "a service's test imports another",
    restricted,
    "services/orders/e.test.ts",
    'import { one } from "../payments/one.ts";\nconsole.info(one);',
  ],
  [
    "a part of a service imports another service",
    restricted,
    "services/accounts/ledger/a.ts",
    'import { one } from "../../payments/one.ts";\nconsole.info(one);',
  ],
  [
    "a part of a part does",
    restricted,
    "services/accounts/ledger/card/a.ts",
    'import { one } from "../../../payments/one.ts";\nconsole.info(one);',
  ],
  [
    "a service imports the platform by its path",
    restricted,
    "services/orders/f.ts",
    'import { one } from "../../platform/one.ts";\nconsole.info(one);',
  ],
  ["a service imports a system", restricted, "services/orders/g.ts", 'import { bank } from "../../systems/bank.ts";\nconsole.info(bank);'],
  ["the platform imports a service", restricted, "platform/a.ts", 'import { one } from "../services/payments/one.ts";\nconsole.info(one);'],
  [
    "a part of the platform does",
    restricted,
    "platform/rpc/a.ts",
    'import type { One } from "../../services/payments/one.ts";\nexport type A = One;',
  ],
  ["the platform imports a system", restricted, "platform/rpc/b.ts", 'import { bank } from "../../systems/bank.ts";\nconsole.info(bank);'],
  ["the platform imports a command", restricted, "platform/rpc/c.ts", 'export const c = () => import("../../cli/main.ts");'],
  ["contracts import the platform", restricted, "contracts/polis/a.ts", 'import { one } from "#platform/one.ts";\nconsole.info(one);'],
  [
    "contracts import the platform by its path",
    restricted,
    "contracts/polis/b.ts",
    'import { one } from "../../platform/one.ts";\nconsole.info(one);',
  ],
  ["two files import each other", cycle, "platform/circle/a.ts", 'import { b } from "./b.ts";\nexport const a = () => b;'],
  [
    "two files import each other by #platform",
    cycle,
    "platform/circle/b.ts",
    'import { a } from "#platform/circle/a.ts";\nexport const b = () => a;',
  ],
  ["two files import each other's types", cycle, "platform/circle/c.ts", 'import type { D } from "./d.ts";\nexport type C = { d: D };'],
  ["a barrel", "lint/performance/noBarrelFile", "platform/rpc/index.ts", 'export { one } from "../one.ts";'],
  ["a barrel of everything", "lint/performance/noReExportAll", "platform/rpc/all.ts", 'export * from "../one.ts";'],
];

const lawful: Readonly<Record<string, string>> = {
  "platform/one.ts": "export const one = 1;\nexport type One = 1;",
  "platform/rpc/near.ts": 'import { one } from "../one.ts";\nimport { near } from "#platform/far.ts";\n\nexport const both = [one, near];',
  "platform/far.ts": "export const near = 1;",
  "platform/circle/d.ts": 'import type { C } from "./c.ts";\n\nexport type D = { c: C };',
  "services/payments/one.ts": "export const one = 1;\nexport type One = 1;",
  "services/payments/own.ts":
    'import { readFileSync } from "node:fs";\nimport { one } from "#platform/one.ts";\nimport { one as own } from "./one.ts";\n\nexport const all = [one, own, readFileSync];',
  "services/accounts/tables.ts": "export const tables = 1;",
  "services/accounts/holds/hold.ts": 'import { tables } from "../tables.ts";\n\nexport const hold = tables;',
  "services/accounts/ledger/post.ts": 'import { hold } from "../holds/hold.ts";\n\nexport const post = hold;',
  "systems/bank.ts": 'import { one } from "../services/payments/one.ts";\n\nexport const bank = one;',
  "cli/main.ts": 'import { bank } from "../systems/bank.ts";\n\nexport const main = bank;',
};

let folder: string;
/** The rules that each file breaks. */
const found = new Map<string, string[]>();

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "polis-boundaries-"));
  for (const name of ["biome.json", "package.json", ".gitignore"]) copyFileSync(join(root, name), join(folder, name));
  const files = [...Object.entries(lawful), ...violations.map(([, , path, text]) => [path, text] as const)];
  for (const [path, text] of files) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), `${text}\n`);
  }
  const biome = join(root, "node_modules", "@biomejs", "biome", "bin", "biome");
  const { stdout } = spawnSync(process.execPath, [biome, "lint", "--reporter=json", "--max-diagnostics=none"], {
    cwd: folder,
    encoding: "utf8",
  });
  const report = JSON.parse(stdout) as { diagnostics: { category: string; location: { path: string } }[] };
  for (const { category, location } of report.diagnostics) found.set(location.path, [...(found.get(location.path) ?? []), category]);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("the linter complains where", () => {
  test.each(violations)("%s", (_, rule, path) => expect(found.get(path)).toContain(rule));
});

describe("the linter is content with", () => {
  test.each(Object.keys(lawful).filter((path) => path !== "platform/circle/d.ts"))("%s", (path) =>
    expect(found.get(path) ?? []).toEqual([]),
  );
});
