import type { Database } from "#platform/postgres/database.ts";
import { NO_SUCH_DATABASE, sqlState } from "#platform/postgres/errors.ts";
import { reachDatabase } from "#platform/process/reach-database.ts";
import type { ServiceDefinition } from "#platform/service.ts";
import type { openSettings } from "./process-settings.ts";

/** Does the same in the databases of these services, one after the other, and prints what it returns. A database that isn't there holds nothing. */
export async function printOfServices(
  services: readonly ServiceDefinition[],
  opened: Awaited<ReturnType<typeof openSettings>>,
  {
    act,
    whenNothing,
  }: { readonly act: (database: Database, service: ServiceDefinition) => Promise<readonly string[]>; readonly whenNothing: string },
): Promise<void> {
  let isSilent = true;
  for (const service of services) {
    const reached = await reachDatabase(service.name, opened).catch((error: unknown) => {
      if (sqlState(error) === NO_SUCH_DATABASE) return undefined;
      throw error;
    });
    if (reached === undefined) continue;
    try {
      for (const line of await act(reached.database, service)) {
        console.log(line);
        isSilent = false;
      }
    } finally {
      await reached.close();
    }
  }
  if (isSilent) console.error(whenNothing);
}
