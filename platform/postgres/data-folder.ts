import { mkdir } from "node:fs/promises";
import { serverUser } from "#platform/postgres/server-user.ts";

/**
 * Makes Polis's data folder if it isn't there: private, but such that the user to whom root lends the server can walk through.
 * Resolves with the first of the folders that it made. Throws where there can be none, saying how to choose another.
 */
export async function makeDataFolder(folder: string): Promise<string | undefined> {
  try {
    return await mkdir(folder, { recursive: true, mode: serverUser() === undefined ? 0o700 : 0o711 });
  } catch (cause) {
    throw new Error(`${folder} can't be the data folder; choose another by --data or POLIS_DATA`, { cause });
  }
}
