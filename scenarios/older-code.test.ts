import { randomUUID } from "node:crypto";
import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { testLog } from "#platform/postgres/database.testing.ts";
import { migrate } from "#platform/postgres/migrate.ts";
import { release } from "../cli/release.ts";
import { ordersService } from "../services/orders/service.ts";
import { settled } from "./support/settled.ts";
import { testDatabases } from "./support/test-databases.ts";
import { startTestPolis } from "./support/test-polis.ts";

const folder = mkdtempSync(join(tmpdir(), "polis-newer-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const databases = await testDatabases();
const [major = 0, minor = 0] = release.split(".").map(Number);
const next = `${major}.${minor + 1}.0`;

/** Migrates orders as the next release would. */
async function migrateAsNext(number: string, header: string, sql: string): Promise<void> {
  cpSync(join(ordersService.folder, "migrations"), folder, { recursive: true });
  writeFileSync(join(folder, `${number}.sql`), `-- release: ${next}\n${header}\n${sql}\n`);
  await migrate({
    connection: databases.connection("orders"),
    sets: [{ name: "orders", folder }],
    release: next,
    log: testLog,
  });
}

test("this code runs on a database that the next release has migrated, and refuses one that it can't run on", async () => {
  await migrateAsNext(
    "9001-note",
    "",
    "ALTER TABLE orders ADD COLUMN note text NOT NULL DEFAULT ''; CREATE TABLE parcels (id uuid PRIMARY KEY);",
  );
  const polis = await startTestPolis(databases);
  const rest = polis.rest(randomUUID());
  const { body: account } = await rest.openAccount();
  await rest.topUp(account.id, 100, "money");
  const { body: order } = await rest.createOrder({ amount: 100 });
  expect(await settled(rest, order.id)).toMatchObject({ status: "FINISHED" });
  expect((await rest.orders()).body.orders).toHaveLength(1);
  await polis.stop();

  await migrateAsNext("9002-contract", `-- oldest-code: ${next}`, "ALTER TABLE orders DROP COLUMN reason;");
  await expect(startTestPolis(databases)).rejects.toThrow(`only ${next} or later runs on it`);
});
