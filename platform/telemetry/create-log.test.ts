import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { create } from "@bufbuild/protobuf";
import { expect, test, vi } from "vitest";
import { OrderSchema } from "#contracts/polis/orders/v1/orders_pb.ts";
import { CallError } from "#platform/rpc/call-error.ts";
import { createLog } from "./create-log.ts";

const WAIT = { timeout: 10_000, interval: 20 };

/** A process of its own that has a `log` on its standard output, and runs this. */
const logging = (script: string) => {
  const opened = `import { createLog } from ${JSON.stringify(import.meta.resolve("./create-log.ts"))};
    const log = await createLog({ level: "info", format: "json" });`;
  const child = spawn(process.execPath, ["--input-type=module", "--eval", opened + script], {
    stdio: ["ignore", "pipe", "inherit", "ipc"],
  });
  const stdout = child.stdout as Readable;
  return { child, stdout, said: async () => (await once(child, "message"))[0], ended: async () => (await once(child, "exit"))[0] };
};

const record = async (format: "json" | "pretty", level: "info" | "silent" = "info") => {
  const written: string[] = [];
  const log = await createLog({ level, format, destination: { write: (line) => void written.push(line) } });
  return { log, written, last: () => JSON.parse(written.at(-1) ?? "null") };
};

test("writes a JSON object a line, with the fields of its part", async () => {
  const { log, last } = await record("json");
  log.child({ service: "orders" }).info({ attempts: 2n }, "retried");
  expect(last()).toMatchObject({ level: "info", msg: "retried", service: "orders", attempts: "2", time: expect.stringMatching(/Z$/) });
});

test("leaves out what is below its level", async () => {
  const { log, written } = await record("json");
  log.debug("not told");
  const silent = await record("json", "silent");
  silent.log.fatal("not told");
  expect([...written, ...silent.written]).toEqual([]);
});

test("masks secrets and personal data at any depth, in a part's fields as in a line's", async () => {
  const { log, written } = await record("json");
  log
    .child({ peer: { callerToken: "hush" } })
    .warn({ headers: { Authorization: "hush", "x-user-id": "hush" }, list: [{ user_id: "hush" }], url: "postgres://me:hush@h/d" });
  log.info({ order: create(OrderSchema, { id: "o", description: "hush" }) });
  expect(written.join("")).not.toContain("hush");
  expect(written.join("")).toContain("[polis.orders.v1.Order]");
});

test("shows an error with its causes, without the rows that PostgreSQL quotes", async () => {
  const { log, last } = await record("json");
  const cause = Object.assign(new Error("duplicate key"), { code: "23505", constraint: "accounts_owner", detail: "Key (user_id)=(hush)" });
  log.error({ err: new Error("not stored", { cause }) }, "failed");
  expect(last().err).toMatchObject({
    type: "Error",
    message: "not stored",
    stack: expect.any(String),
    cause: { code: "23505", constraint: "accounts_owner" },
  });
  expect(JSON.stringify(last())).not.toContain("hush");
});

test("says which call failed", async () => {
  const { log, last } = await record("json");
  const error = Object.assign(new CallError("UNAVAILABLE", "unavailable", "The service can't be reached."), { called: "polis.a.v1.A/Do" });
  log.error({ err: error }, "failed");
  expect(last().err).toMatchObject({ type: "CallError", status: "UNAVAILABLE", called: "polis.a.v1.A/Do" });
});

test("takes an error alone, as pino does", async () => {
  const { log, last } = await record("json");
  log.error(new Error("broken"));
  expect(last()).toMatchObject({ msg: "broken", err: { message: "broken" } });
});

test("survives what refers to itself", async () => {
  const { log, last } = await record("json");
  const loop: Record<string, unknown> = { name: "loop" };
  loop.self = loop;
  log.info({ loop }, "told");
  expect(last()).toMatchObject({ msg: "told", loop: { name: "loop" } });
});

test("writes lines for a reader where it is told to", async () => {
  const { log, written } = await record("pretty");
  log.info({ service: "orders" }, "started");
  expect(written.join("")).toMatch(/INFO.*started[\s\S]*service: "orders"/);
});

test("lets its process go on where nobody reads it any more, and end when that wants to", async () => {
  const { child, stdout, said, ended } = logging(`
    process.once("message", () => {
      for (let n = 0; n < 100; n++) log.info({ n }, "nobody reads this");
      process.send("went on", () => process.exit(7));
    });
    log.info("ready");`);
  await once(stdout, "data");
  stdout.destroy();
  child.send("write");
  expect(await Promise.all([said(), ended()])).toEqual(["went on", 7]);
});

test("holds nothing up where its reader takes nothing, and tells that reader later what it missed", async () => {
  const { child, stdout, said, ended } = logging(`
    for (let n = 0; n < 20; n++) log.info({ n }, "x".repeat(1_000_000));
    process.once("message", () => process.exit(7));
    process.send("went on");`);
  expect(await said()).toBe("went on");
  const told: { n?: number; msg: string; lines?: number }[] = [];
  const reader = createInterface({ input: stdout });
  reader.on("line", (line) => void told.push(JSON.parse(line)));
  await vi.waitFor(() => expect(told.at(-1)?.lines).toBeGreaterThan(0), WAIT);
  const { lines = 0 } = told.pop() ?? {};
  expect(told.map(({ n }) => n)).toEqual(Array.from({ length: 20 - lines }, (_, n) => n));
  child.send("end");
  expect(await ended()).toBe(7);
});

test("goes through a backlog of many lines without holding the process up", async () => {
  const { child, stdout, said, ended } = logging(`
    for (let n = 0; n < 60_000; n++) log.info({ n }, "short");
    let turns = 0;
    const turn = () => { turns += 1; setTimeout(turn, 1); };
    turn();
    process.on("message", (word) => word === "end" ? process.exit(7) : process.send(turns));
    process.send("full");`);
  expect(await said()).toBe("full");
  let lines = 0;
  createInterface({ input: stdout }).on("line", () => {
    lines += 1;
  });
  await vi.waitFor(() => expect(lines).toBe(60_000), WAIT);
  child.send("how far");
  // Its timers have gone off all the while: in each of the many turns in which the backlog was written.
  expect(await said()).toBeGreaterThan(10);
  child.send("end");
  expect(await ended()).toBe(7);
});

test("ends with its process though its reader takes nothing", async () => {
  const { ended } = logging(`
    for (let n = 0; n < 5; n++) log.info("x".repeat(1_000_000));
    process.exit(7);`);
  expect(await ended()).toBe(7);
});

test("writes a line whole that a pipe doesn't take at once", async () => {
  const { stdout } = logging(`
    log.info("x".repeat(1_000_000));
    log.info("last");`);
  const lines: string[] = [];
  for await (const line of createInterface({ input: stdout })) lines.push(line);
  expect(lines.map((line) => JSON.parse(line).msg.length)).toEqual([1_000_000, 4]);
});
