import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { expect, test } from "vitest";
import { freePort } from "#platform/process/free-port.testing.ts";

const root = join(import.meta.dirname, "..");

/** The shell block under a heading of the README. */
function blockUnder(heading: string): string {
  const [, after = ""] = readFileSync(join(root, "README.md"), "utf8").split(`\n## ${heading}\n`);
  const [, block = ""] = /```sh\n(.*?)```/s.exec(after) ?? [];
  return block;
}

test("the first requests of the README do what it says", async () => {
  const folder = mkdtempSync(join(tmpdir(), "polis-readme-"));
  const { PATH = "" } = process.env;
  const mailboxPort = await freePort();
  const env = { PATH, MAILBOX_PORT: String(mailboxPort), NODE_COMPILE_CACHE: join(root, "node_modules", ".cache", "compile") };
  const polis = spawn(process.execPath, [join(root, "cli", "main.ts"), "start", "--port", "0", "--data", folder], {
    env,
    stdio: ["ignore", "pipe", "inherit"],
  });
  try {
    let url = "";
    for await (const line of createInterface(polis.stdout)) {
      const { msg, http } = JSON.parse(line) as { msg: string; http?: string };
      if (msg !== "ready") continue;
      url = String(http);
      break;
    }
    polis.stdout.resume();
    // Where a reader waits a second, the script waits for what the second is for.
    const settled = `until curl -s "$polis/orders" -H "$user" | grep -vq '"NEW"'; do sleep 0.05; done`;
    const posted = `until curl -s "$mailbox/api/messages" | grep -q anna@; do sleep 0.05; done`;
    const script = blockUnder("First requests")
      .replace("http://127.0.0.1:8080", url)
      .replace("http://127.0.0.1:8025", `http://127.0.0.1:${mailboxPort}`)
      .replace("sleep 1", posted)
      .replaceAll("sleep 1", settled);
    const { stdout, status } = spawnSync("bash", ["-ec", script], { encoding: "utf8", timeout: 45_000 });
    expect(status).toBe(0);
    expect(stdout).toMatch(/"status":"FINISHED"/);
    expect(stdout).toMatch(/"balance":"4000"/);
    expect(stdout).toMatch(/"status":"CANCELED","reason":"insufficient_funds"/);
    expect(stdout).toMatch(/"sessions":\[\{[^\]]*"current":true/);
    expect(stdout).not.toMatch(/"requestId"/);
  } finally {
    polis.kill("SIGTERM");
    if (polis.exitCode === null) await once(polis, "exit");
    rmSync(folder, { recursive: true, force: true });
  }
});
