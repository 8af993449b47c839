import { readFile } from "node:fs/promises";

/** The text of the file that a setting names; undefined where it names none. Throws, naming the setting, where it can't be read. */
export async function settingFile(setting: string, path: string | undefined): Promise<string | undefined> {
  if (path === undefined) return undefined;
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    throw new Error(`${setting}: the file can't be read`, { cause: error });
  }
}
