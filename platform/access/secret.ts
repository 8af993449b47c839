import { randomBytes } from "node:crypto";
import { link, open, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { SECRET_LENGTH_MIN } from "#platform/access/secrets.ts";
import { makeDataFolder } from "#platform/postgres/data-folder.ts";

/**
 * The secret that all processes of a deployment share: POLIS_SECRET, or, where everything runs from one data folder, what
 * was made at random in `<folder>/secret` when it was first asked for. Throws where there is neither, or it is too short.
 */
export async function deploymentSecret(from: { readonly fromSetting?: string | undefined; readonly folder?: string }): Promise<string> {
  if (from.fromSetting !== undefined) return longEnough(from.fromSetting, "POLIS_SECRET");
  if (from.folder === undefined) throw new Error("POLIS_SECRET is not set: processes without a data folder share their secret by it");
  const path = join(from.folder, "secret");
  return longEnough((await read(path)) ?? (await make(from.folder, path)), path);
}

/** The same, but none is made: undefined where there is neither. */
export async function existingSecret(from: {
  readonly fromSetting?: string | undefined;
  readonly folder: string;
}): Promise<string | undefined> {
  const secret = from.fromSetting ?? (await read(join(from.folder, "secret")));
  return secret === undefined ? undefined : longEnough(secret, "the secret");
}

function longEnough(secret: string, where: string): string {
  if (secret.length < SECRET_LENGTH_MIN) throw new Error(`${where}: a secret has at least ${SECRET_LENGTH_MIN} characters`);
  return secret;
}

async function read(path: string): Promise<string | undefined> {
  try {
    return (await readFile(path, "utf8")).trim();
  } catch (error) {
    // ENOTDIR: what is to be the folder is a file.
    if (isCode(error, "ENOENT") || isCode(error, "ENOTDIR")) return undefined;
    throw error;
  }
}

/** Written whole beside its place and then linked there, which only one of two starters can do; both read the same one. */
async function make(folder: string, path: string): Promise<string> {
  await makeDataFolder(folder);
  const own = `${path}.${process.pid}.${randomBytes(4).toString("hex")}`;
  const file = await open(own, "wx", 0o600);
  try {
    await file.writeFile(`${randomBytes(32).toString("base64url")}\n`);
    await file.sync();
    await file.close();
    await link(own, path);
  } catch (error) {
    if (!isCode(error, "EEXIST")) throw error;
  } finally {
    await rm(own, { force: true });
  }
  return (await read(path)) ?? "";
}

const isCode = (error: unknown, code: string): boolean => error instanceof Error && "code" in error && error.code === code;
