import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { callerTokens } from "#platform/access/caller-token.ts";
import { secretsOf } from "#platform/access/secrets.ts";
import { urlOf } from "#platform/postgres/connection-url.testing.ts";
import { testServer } from "#platform/postgres/database.testing.ts";
import { backup } from "./backup.ts";
import { callerToken } from "./caller-token.ts";
import { type Command, helpOf, runCommand, UsageError } from "./command.ts";
import { config } from "./config.ts";
import { deadLetters } from "./dead-letters.ts";
import { groups } from "./groups.ts";
import { migrate } from "./migrate.ts";
import { outbox } from "./outbox.ts";
import { release } from "./release.ts";
import { restore } from "./restore.ts";
import { start } from "./start.ts";
import { tasks } from "./tasks.ts";

const commands: Readonly<Record<string, Command>> = {
  start,
  migrate,
  config,
  "caller-token": callerToken,
  "dead-letters": deadLetters,
  outbox,
  groups,
  tasks,
  backup,
  restore,
};

const userId = "0191f0a0-0000-7000-8000-000000000001";
const folder = mkdtempSync(join(tmpdir(), "polis-cli-"));
afterAll(() => rmSync(folder, { recursive: true }));

const polis = (args: readonly string[], env: Record<string, string> = {}) => run(join("cli", "main.ts"), args, env);

function run(script: string, args: readonly string[], env: Record<string, string> = {}) {
  const { PATH = "" } = process.env;
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(import.meta.dirname, "..", script), ...args], {
    encoding: "utf8",
    env: { PATH, POLIS_DATA: folder, NODE_COMPILE_CACHE: join(import.meta.dirname, "..", "node_modules", ".cache", "compile"), ...env },
  });
  return { status, stdout, stderr };
}

describe("polis", () => {
  test("tells what it can do, and its release", () => {
    expect(polis(["--help"])).toMatchObject({ status: 0, stdout: expect.stringMatching(/start .*\n.*migrate /) });
    expect(polis(["--version"])).toMatchObject({ status: 0, stdout: `${release}\n` });
  });

  test("is content where its reader has enough, as `head` has", () => {
    const command = `{ "$0" "$1" config; echo $? >&2; } | true`;
    const { PATH = "" } = process.env;
    const { stderr } = spawnSync("sh", ["-c", command, process.execPath, join(import.meta.dirname, "main.ts")], {
      encoding: "utf8",
      env: { PATH },
    });
    expect(stderr).toBe("0\n");
  });

  test.skipIf(!existsSync("/dev/full"))("says so where nothing more can be written", () => {
    const { stderr } = spawnSync(
      "sh",
      ["-c", `"$0" "$1" config >/dev/full; echo $? >&2`, process.execPath, join(import.meta.dirname, "main.ts")],
      {
        encoding: "utf8",
        env: { PATH: process.env.PATH ?? "" },
      },
    );
    expect(stderr).toBe("polis: what it says can't be written: ENOSPC: no space left on device, write\n1\n");
  });

  test.each([
    [[], "say what to do"],
    [["strat"], "did you mean 'start'?"],
    [["start", "--prot", "1"], "Unknown option '--prot'"],
  ])("refuses %j, saying why, with exit code 2", (args, why) => {
    const { status, stdout, stderr } = polis(args);
    expect(stderr).toContain(why);
    expect({ status, stdout }).toEqual({ status: 2, stdout: "" });
  });

  test("shows how the command that was meant is called", () => {
    expect(polis(["dead-letters", "show"]).stderr).toContain("usage: polis dead-letters show");
    expect(polis(["dead-letters", "show"]).stderr).not.toContain("polis <command>");
  });
});

describe.each([join("bench", "main.ts"), join("scenarios", "drill.ts")])("the script %s", (script) => {
  test("tells about itself", () =>
    expect(run(script, ["--help"])).toEqual({ status: 0, stdout: expect.stringMatching(/^npm run \w+ -- /), stderr: "" }));

  test.each([
    ["--bogus", "Unknown option '--bogus'"],
    ["bogus", "there is no \\w+ 'bogus'"],
  ])("refuses %s in a sentence, above how it is called, with exit code 2", (arg, why) => {
    const stderr = expect.stringMatching(new RegExp(`^${why}\n\nnpm run \\w+ -- `));
    expect(run(script, [arg])).toEqual({ status: 2, stdout: "", stderr });
  });
});

describe("a command", () => {
  test.each(Object.entries(commands))("tells about itself: %s", (name, command) =>
    expect(helpOf(command)).toContain(`usage: polis ${name}`),
  );

  test.each<[string, string[], string]>([
    ["start", ["--port"], "argument missing"],
    ["start", ["now"], "'now' is not expected here"],
    ["start", ["--system", "order-payment"], "did you mean 'order-payments'?"],
    ["start", ["--services", "orders,gatewy"], "did you mean 'gateway'?"],
    ["start", ["--services", ","], "--services must name some of accounts, "],
    ["start", ["--services", "orders", "--system", "order-payments"], "exclude each other"],
    ["caller-token", ["--user", "me"], "--user must be a UUID"],
    ["caller-token", ["--user", userId, "--role", ""], "--role and --scope must be names"],
    ["caller-token", ["--user", userId, "--role", "clerk", "--scope", " "], "--role and --scope must be names"],
    ["caller-token", ["--user", userId, "--ttl", "2d"], "a day at the most"],
    ["dead-letters", [], "say list, show, replay or drop"],
    ["dead-letters", ["show", "orders.on-payment-settled"], "needs an EVENT_ID"],
    ["dead-letters", ["drop", "orders.on-payment-settled"], "needs an EVENT_ID or --key"],
    ["dead-letters", ["list", "--limit", "0"], "from 1 to 10000"],
    ["outbox", [], "say list or retry"],
    ["outbox", ["retry"], "needs a SERVICE"],
    ["outbox", ["list", "order"], "there is no service 'order'; there are "],
    ["outbox", ["list", "--limit", "0"], "from 1 to 10000"],
    ["groups", [], "say list or drop"],
    ["groups", ["list", "orders.on-payment-settled"], "takes no group"],
    ["groups", ["drop"], "needs a GROUP"],
    ["backup", [], "say one folder"],
    ["restore", ["a", "b"], "say the one folder"],
  ])("%s refuses %j, saying why", async (name, args, why) => {
    const refused = await runCommand(commands[name]!, args).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(UsageError);
    expect((refused as UsageError).message).toContain(why);
  });
});

describe("a data folder that can't be one", () => {
  const file = join(folder, "file");
  writeFileSync(file, "");

  test("is told by the start, and how to choose another", () => {
    const { status, stderr } = polis(["start", "--data", file]);
    expect(stderr).toMatch(/^polis: .*file can't be the data folder; choose another by --data or POLIS_DATA\n {2}because: EEXIST/);
    expect(status).toBe(1);
  });

  test("holds neither a database nor a secret", () => {
    expect(polis(["groups", "list", "--data", file]).stderr).toBe(`polis: ${file} holds no database\n`);
    expect(polis(["caller-token", "--user", userId, "--data", file]).stderr).toContain(`there is no secret in ${file}`);
  });
});

describe("a command that needs what is there already", () => {
  test.each([
    ["dead-letters", "list"],
    ["dead-letters", "show", "orders.on-payment-settled", "an-id"],
    ["dead-letters", "replay", "orders.on-payment-settled"],
    ["dead-letters", "drop", "orders.on-payment-settled", "an-id"],
    ["outbox", "list"],
    ["outbox", "retry", "orders"],
    ["tasks", "list"],
    ["tasks", "retry", "orders"],
    ["groups", "list"],
    ["groups", "drop", "orders.on-payment-settled"],
    ["backup", join(folder, "copy")],
  ])("says that the folder holds no database, and makes none: %s %s", (...args) => {
    const typo = join(folder, "typo");
    expect(polis(args, { POLIS_DATA: typo })).toEqual({ status: 1, stdout: "", stderr: `polis: ${typo} holds no database\n` });
    expect(existsSync(typo)).toBe(false);
  });
});

describe("what isn't there to act on", () => {
  const groupsOfCode = "orders.on-payment-settled, payments.on-order-created";

  // Databases without a group: nothing ever ran on them.
  beforeAll(() => expect(polis(["migrate", "--services", "orders,"]).status).toBe(0));

  test.each([
    ["dead-letters replay nope", `there is no group 'nope'; there are ${groupsOfCode}`],
    ["groups drop nope", "there is no group 'nope'; there are none"],
    ["dead-letters show orders.on-payment-settled xx", "orders.on-payment-settled has no parked event xx"],
    [
      `caller-token --user ${userId}`,
      `there is no secret in ${folder}: start Polis there first, or name its folder by --data, or set POLIS_SECRET`,
    ],
  ])("is told in a sentence without the usage, with exit code 1: %s", (command, why) =>
    expect(polis(command.split(" "))).toEqual({ status: 1, stdout: "", stderr: `polis: ${why}\n` }),
  );

  test("is told in the same way for a backup of another's PostgreSQL", () => {
    const { status, stderr } = polis(["backup", join(folder, "copy")], { POSTGRES_URL: "postgres://h/d" });
    expect({ status, stderr }).toEqual({ status: 1, stderr: expect.stringMatching(/^polis: POSTGRES_URL is set: .*\n$/) });
  });

  test.each([
    ["groups list", "there are no groups"],
    ["dead-letters list", "nothing is parked"],
    ["outbox list", "nothing is parked"],
    ["tasks list", "there are none"],
  ])("is no fault where everything is asked for: %s", (command, what) =>
    expect(polis(command.split(" "))).toEqual({ status: 0, stdout: "", stderr: `${what}\n` }),
  );
});

describe("a command on a PostgreSQL that isn't reached", () => {
  test.each([
    ["POSTGRES_URL", ["start", "--port", "0"]],
    ["POSTGRES_URL", ["migrate"]],
    ["POSTGRES_URL", ["groups", "list"]],
    ["POSTGRES_URL", ["dead-letters", "list"]],
    ["POSTGRES_URL_ORDERS", ["dead-letters", "list", "orders.on-payment-settled"]],
  ])("names %s and what to do, once, without the password: %j", (setting, args) => {
    expect(polis(args, { [setting]: "postgres://me:hush@127.0.0.1:1/x" })).toEqual({
      status: 1,
      stdout: "",
      stderr:
        `polis: no PostgreSQL lets us in at 127.0.0.1:1, which is what ${setting} says: ` +
        `see that one runs there, and that ${setting} is right\n  because: connect ECONNREFUSED 127.0.0.1:1\n`,
    });
  });

  test("says so as well where it is reached and refuses who asks", () => {
    const { status, stderr } = polis(["groups", "list"], { POSTGRES_URL: urlOf({ ...testServer(), password: "hush" }) });
    expect(stderr).toMatch(/POSTGRES_URL is right\n {2}because: password authentication failed for user "polis"\n$/);
    expect(status).toBe(1);
  });
});

describe("polis config", () => {
  test("lists every setting with its value and where it comes from, secrets masked", () => {
    const { status, stdout } = polis(["config", "--port", "81"], { POSTGRES_URL_ORDERS: "postgres://me:hush@h/d", GRPC_PORT: "50051" });
    expect(status).toBe(0);
    expect(stdout).toMatch(/^PORT +81 +flag +8080 /m);
    expect(stdout).toMatch(/^GRPC_PORT +50051 +environment +- /m);
    expect(stdout).toMatch(/^HOST +127\.0\.0\.1 +default +127\.0\.0\.1 /m);
    expect(stdout).toMatch(/^PAYMENTS_URL +payments:50051 +default +payments:50051 /m);
    expect(stdout).not.toContain("hush");
  });

  test("ends with exit code 2 and every fault where values are wrong, and names slips", () => {
    const { status, stdout, stderr } = polis(["config"], { PORT: "http", LOG_LEVEL: "loud", POLIS_SECERT: "x" });
    expect(status).toBe(2);
    expect(stdout).toContain("(wrong: must be a port, 0 to 65535)");
    expect(stderr).toMatch(/PORT must be a port/);
    expect(stderr).toMatch(/LOG_LEVEL must be one of/);
    expect(stderr).toMatch(/POLIS_SECERT is no setting of Polis; did you mean POLIS_SECRET\?/);
  });

  test("lists for programs", () => {
    const lines = polis(["config", "--json"])
      .stdout.trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(lines).toContainEqual({ name: "PORT", value: "8080", from: "default", default: "8080", text: expect.any(String) });
  });
});

test("polis caller-token prints a token that the deployment's secret verifies", async () => {
  const secret = "a secret of this deployment, long enough";
  const { status, stdout } = polis(["caller-token", "--user", userId.toUpperCase(), "--role", "clerk", "--ttl", "15m"], {
    POLIS_SECRET: secret,
  });
  expect(status).toBe(0);
  const token = stdout.trim();
  expect(await callerTokens({ secrets: secretsOf([secret]) }).verify(token)).toMatchObject({
    kind: "user",
    userId,
    roles: ["user", "clerk"],
  });
  const later = callerTokens({ secrets: secretsOf([secret]), clock: () => Date.now() + 16 * 60_000 });
  await expect(later.verify(token)).rejects.toThrow("expired");
});
