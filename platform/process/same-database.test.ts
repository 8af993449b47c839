import { expect, test } from "vitest";
import { testDatabase, testDatabaseConnection, testServer } from "#platform/postgres/database.testing.ts";
import { assertSameDatabase } from "#platform/process/same-database.ts";

const database = await testDatabase();
const other = await testDatabaseConnection();
const settings = "POSTGRES_URL and POSTGRES_DIRECT_URL";

test("a way around a pooler that leads into another database is refused, by the settings that say both", async () => {
  const { rows } = await database.query<{ name: string }>({ text: "SELECT current_database() AS name" });
  await expect(assertSameDatabase(database, { ...testServer(), database: String(rows[0]?.name) }, settings)).resolves.toBeUndefined();
  await expect(assertSameDatabase(database, other, settings)).rejects.toThrow(
    "POSTGRES_URL and POSTGRES_DIRECT_URL lead to two different databases",
  );
});
