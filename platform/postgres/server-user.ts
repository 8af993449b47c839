import { readFileSync, realpathSync, statSync } from "node:fs";
import { chown, lchown, readdir } from "node:fs/promises";
import { dirname, join } from "node:path";

/** As whom the server runs: PostgreSQL refuses to run as root. */
export type ServerUser = { readonly uid: number; readonly gid: number };

/** Users that root lends the server, the first that is there. */
const USERS = ["postgres", "nobody"];

/** undefined: as this process's own user, who isn't root. */
export function serverUser(): ServerUser | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const users = new Map(
    readFileSync("/etc/passwd", "utf8")
      .split("\n")
      .map((line) => line.split(":"))
      // macOS writes nobody as -2.
      .map(([name = "", , uid, gid]) => [name, { uid: Number(uid) >>> 0, gid: Number(gid) >>> 0 }] as const),
  );
  const user = USERS.map((name) => users.get(name)).find((found) => found !== undefined);
  if (user === undefined)
    throw new Error(`PostgreSQL doesn't run as root, and none of the users ${USERS.join(", ")} is there to run it as`);
  return user;
}

const EXECUTE = 1;

/** Whether `user` can walk down to `path`, whose folder exists, by the modes of the folders above it. */
export function canReach(path: string, user: ServerUser | undefined): boolean {
  if (user === undefined) return true;
  let folder = realpathSync(dirname(path));
  for (;;) {
    const { mode, uid, gid } = statSync(folder);
    const bits = uid === user.uid ? mode >> 6 : gid === user.gid ? mode >> 3 : mode;
    if ((bits & EXECUTE) === 0) return false;
    const above = dirname(folder);
    if (above === folder) return true;
    folder = above;
  }
}

/** Gives a folder and everything in it to `user`, unless it is his already. */
export async function giveTo(folder: string, user: ServerUser | undefined): Promise<void> {
  if (user === undefined || statSync(folder).uid === user.uid) return;
  for (const entry of await readdir(folder, { recursive: true })) await lchown(join(folder, entry), user.uid, user.gid);
  // Last: whoever is interrupted finds it not done.
  await chown(folder, user.uid, user.gid);
}
