// What somebody outside does: a project of its own (scenarios/openapi-client) makes a client from a running server's document,
// compiles it strictly and works with it. Installs from the registry, so that it is a step of CI and not of `npm test`.
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort } from "../platform/process/free-port.testing.ts";
import { startPolisChild } from "../scenarios/support/polis-child.ts";

const root = join(import.meta.dirname, "..");
// Kept from run to run, so that its node_modules are.
const project = join(root, ".cache", "openapi-client");
const dataFolder = mkdtempSync(join(tmpdir(), "polis-openapi-client-"));

function run(command: string, ...args: string[]): void {
  const { status, error } = spawnSync(command, args, { cwd: project, stdio: "inherit" });
  if (status !== 0) throw new Error(`${[command, ...args].join(" ")} failed`, { cause: error });
}

mkdirSync(project, { recursive: true });
for (const made of ["dist", "polis.ts", "doc.json"]) rmSync(join(project, made), { recursive: true, force: true });
cpSync(join(root, "scenarios", "openapi-client"), project, { recursive: true });
run("npm", "ci", "--prefer-offline");
const mailboxPort = await freePort();
const polis = startPolisChild(["--system", "order-payments", "--data", dataFolder], { MAILBOX_PORT: String(mailboxPort) });
try {
  const { http } = await polis.ready;
  const answer = await fetch(`${http}/swagger/doc.json`);
  writeFileSync(join(project, "doc.json"), await answer.text());
  run("npm", "run", "--silent", "generate");
  run("npm", "run", "--silent", "build");
  run("npm", "run", "--silent", "start", "--", http, `http://127.0.0.1:${mailboxPort}`);
} finally {
  polis.signal("SIGTERM");
  await polis.ended;
  rmSync(dataFolder, { recursive: true, force: true });
}
