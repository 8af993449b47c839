import { create } from "@bufbuild/protobuf";
import { expect, it } from "vitest";
import { OrderSchema } from "#contracts/polis/orders/v1/orders_pb.ts";
import { createLog } from "./create-log.ts";

const record = async (format: "json" | "pretty", level: "info" | "silent" = "info") => {
  const written: string[] = [];
  const log = await createLog({ level, format, destination: { write: (line) => void written.push(line) } });
  return { log, written, last: () => JSON.parse(written.at(-1) ?? "null") };
};

it("writes a JSON object a line, with the fields of its part", async () => {
  const { log, last } = await record("json");
  log.child({ service: "orders" }).info({ attempts: 2n }, "retried");
  expect(last()).toMatchObject({ level: "info", msg: "retried", service: "orders", attempts: "2", time: expect.stringMatching(/Z$/) });
});

it("leaves out what is below its level", async () => {
  const { log, written } = await record("json");
  log.debug("not told");
  const silent = await record("json", "silent");
  silent.log.fatal("not told");
  expect([...written, ...silent.written]).toEqual([]);
});

it("masks secrets and personal data at any depth, in a part's fields as in a line's", async () => {
  const { log, written } = await record("json");
  log
    .child({ peer: { callerToken: "hush" } })
    .warn({ headers: { Authorization: "hush", "x-user-id": "hush" }, list: [{ user_id: "hush" }], url: "postgres://me:hush@h/d" });
  log.info({ order: create(OrderSchema, { id: "o", description: "hush" }) });
  expect(written.join("")).not.toContain("hush");
  expect(written.join("")).toContain("[polis.orders.v1.Order]");
});

it("shows an error with its causes, without the rows that PostgreSQL quotes", async () => {
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

it("takes an error alone, as pino does", async () => {
  const { log, last } = await record("json");
  log.error(new Error("broken"));
  expect(last()).toMatchObject({ msg: "broken", err: { message: "broken" } });
});

it("survives what refers to itself", async () => {
  const { log, last } = await record("json");
  const loop: Record<string, unknown> = { name: "loop" };
  loop.self = loop;
  log.info({ loop }, "told");
  expect(last()).toMatchObject({ msg: "told", loop: { name: "loop" } });
});

it("writes lines for a reader where it is told to", async () => {
  const { log, written } = await record("pretty");
  log.info({ service: "orders" }, "started");
  expect(written.join("")).toMatch(/INFO.*started[\s\S]*service: "orders"/);
});
