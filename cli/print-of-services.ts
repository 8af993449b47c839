import type { Database } from "#platform/postgres/database.ts";
import { NO_SUCH_DATABASE, sqlState } from "#platform/postgres/errors.ts";
import { reachDatabase } from "#platform/process/reach-database.ts";
import type { ServiceDefinition } from "#platform/service.ts";
import type { openSettings } from "./process-settings.ts";

type Work = {
  readonly act: (database: Database, service: ServiceDefinition) => Promise<readonly string[]>;
  /** Why a service can't be meant: then nothing is done in it. The database is undefined where it isn't there. */
  readonly lackOf?: (service: ServiceDefinition, database: Database | undefined) => Promise<string | undefined>;
  readonly whenNothing: string;
};

/**
 * Does the same in the databases of these services, one after the other, and prints what it returns. A database that isn't there holds
 * nothing. Throws where none of the services can be meant.
 */
export async function printOfServices(
  services: readonly ServiceDefinition[],
  opened: Awaited<ReturnType<typeof openSettings>>,
  { act, lackOf, whenNothing }: Work,
): Promise<void> {
  const lacks: string[] = [];
  let isSilent = true;
  for (const service of services) {
    const reached = await reachDatabase(service.name, opened).catch((error: unknown) => {
      if (sqlState(error) === NO_SUCH_DATABASE) return undefined;
      throw error;
    });
    try {
      const lack = await lackOf?.(service, reached?.database);
      if (lack !== undefined) lacks.push(lack);
      else if (reached !== undefined)
        for (const line of await act(reached.database, service)) {
          console.log(line);
          isSilent = false;
        }
    } finally {
      await reached?.close();
    }
  }
  if (lacks.length > 0 && lacks.length === services.length) throw new Error(lacks.join("; "));
  if (isSilent) console.error(whenNothing);
}
