import { spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { existsSync, lstatSync, readFileSync, readlinkSync, realpathSync, statSync } from "node:fs";
import { chmod, chown, cp, mkdir, open, readFile, rename, rm, symlink, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { type Binaries, findBinaries } from "#platform/postgres/binaries.ts";
import { makeDataFolder } from "#platform/postgres/data-folder.ts";
import { isRunning } from "#platform/postgres/is-running.ts";
import { canReach, giveTo, type ServerUser, serverUser } from "#platform/postgres/server-user.ts";

/** Where everything of an embedded server lies. */
export type Cluster = {
  /** Polis's data folder, as it was given. */
  readonly folder: string;
  /** PGDATA. `folder/postgres`, or what that links to. */
  readonly data: string;
  readonly log: string;
  readonly user: ServerUser | undefined;
  readonly binaries: Binaries;
  /** The folder of the Unix socket, or 127.0.0.1 on Windows. */
  readonly host: string;
};

const SUPERUSER = "polis";
const PORT = 5432;
/** sun_path holds 104 to 108 bytes; the socket's own name takes 15 of them. */
const SOCKET_FOLDER_LENGTH_MAX = 85;
/** Where root keeps what the server's user can't reach in its place, such as below /root. */
const ROOT_FOLDER = "/var/lib/polis";
const LOG_BYTES_MAX = 10_000_000;
const isWindows = process.platform === "win32";

const hash = (text: string): string => createHash("sha256").update(text).digest("hex").slice(0, 16);

/** Finds the cluster of a data folder, and makes it if there is none. */
export async function openCluster(givenFolder: string): Promise<Cluster> {
  const user = serverUser();
  await makeDataFolder(givenFolder);
  const folder = realpathSync(givenFolder);
  const base = await baseOf(folder, user);
  const cluster: Cluster = {
    folder,
    data: join(base, "postgres"),
    log: join(folder, "postgres.log"),
    user,
    binaries: await findBinaries(user, user === undefined ? folder : ROOT_FOLDER),
    host: isWindows ? "127.0.0.1" : await socketFolder(base, user),
  };
  if (!existsSync(join(cluster.data, "PG_VERSION"))) await initialize(cluster);
  return cluster;
}

/** For who only looks, or acts on what is there. @throws where no cluster was ever made in the folder. */
export function assertCluster(folder: string): void {
  if (!existsSync(join(folder, "postgres"))) throw new Error(`${folder} holds no database`);
}

/** The folder that holds the cluster: the data folder, or one that the server's user can reach, with a link to it. */
async function baseOf(folder: string, user: ServerUser | undefined): Promise<string> {
  const link = join(folder, "postgres");
  const found = lstatSync(link, { throwIfNoEntry: false });
  if (found?.isSymbolicLink()) {
    const base = dirname(resolve(folder, readlinkSync(link)));
    if (existsSync(base)) return base;
    throw new Error(`${link} leads to ${base}, which isn't there: this folder's database was moved or deleted`);
  }
  if (user === undefined) return folder;
  if (canReach(folder, user)) {
    // To walk through isn't to look into: what lies in the folder is private by itself.
    const { mode } = statSync(folder);
    if (!canReach(link, user)) await chmod(folder, (mode & 0o777) | 0o011);
    return folder;
  }
  const base = join(ROOT_FOLDER, hash(folder));
  await mkdir(ROOT_FOLDER, { recursive: true, mode: 0o711 });
  await mkdir(base, { recursive: true, mode: 0o700 });
  await chown(base, user.uid, user.gid);
  if (found?.isDirectory()) await move(link, join(base, "postgres"));
  await symlink(join(base, "postgres"), link).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "EEXIST") throw error;
  });
  return base;
}

async function move(from: string, to: string): Promise<void> {
  try {
    await rename(from, to);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EXDEV") throw error;
    await cp(from, `${to}.moving`, { recursive: true, verbatimSymlinks: true, preserveTimestamps: true });
    await rename(`${to}.moving`, to);
    await rm(from, { recursive: true });
  }
}

/** A private folder whose path is short enough for a socket; always the same one, so that a running server is found again. */
async function socketFolder(base: string, user: ServerUser | undefined): Promise<string> {
  const uid = user?.uid ?? process.getuid?.() ?? 0;
  const beside = join(base, "socket");
  const folder = Buffer.byteLength(beside) <= SOCKET_FOLDER_LENGTH_MAX ? beside : join(tmpdir(), `polis-${hash(base)}`);
  try {
    await mkdir(folder, { mode: 0o700 });
    if (user !== undefined) await chown(folder, user.uid, user.gid);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  }
  const found = lstatSync(folder);
  // In our own folder it may be left from another user's server, and root gives it on; in the temporary folder anybody makes names.
  const isOurs = found.uid === uid || found.uid === process.getuid?.() || (user !== undefined && folder === beside);
  if (!found.isDirectory() || !isOurs) throw new Error(`${folder}, which is to hold the database's socket, belongs to somebody else`);
  await chmod(folder, 0o700);
  if (user !== undefined) await chown(folder, user.uid, user.gid);
  return folder;
}

async function initialize(cluster: Cluster): Promise<void> {
  const { data, user, binaries } = cluster;
  // Beside its place and renamed when whole: interrupted, it leaves nothing that looks like a cluster.
  const making = `${data}.new-${randomBytes(6).toString("hex")}`;
  const passwordFile = `${making}.password`;
  const password = randomBytes(24).toString("base64url");
  await mkdir(making, { mode: 0o700 });
  await writeFile(passwordFile, password, { mode: 0o600 });
  if (user !== undefined) for (const path of [making, passwordFile]) await chown(path, user.uid, user.gid);
  try {
    await run(cluster, binaries.initdb, [
      `--pgdata=${making}`,
      `--username=${SUPERUSER}`,
      `--pwfile=${passwordFile}`,
      "--auth=scram-sha-256",
      "--encoding=UTF8",
      "--locale=C",
      "--locale-provider=builtin",
      "--builtin-locale=C.UTF-8",
      "--data-checksums",
      "--no-instructions",
      // The password is random: stretching it would only make each connection slower.
      "--set=scram_iterations=1",
      ...(process.platform === "linux" ? ["--sync-method=syncfs"] : []),
    ]);
    await rename(passwordFile, join(making, "polis-password"));
    if (isWindows) await writeFile(join(making, "polis-port"), String(await freePort()));
    await rename(making, data);
  } catch (error) {
    await rm(making, { recursive: true, force: true });
    await rm(passwordFile, { force: true });
    // Another Polis made it meanwhile; which of the two goes on is decided by the server.
    if (!existsSync(join(data, "PG_VERSION"))) throw error;
  }
}

const freePort = (): Promise<number> =>
  new Promise((resolvePort, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => resolvePort(typeof address === "object" && address !== null ? address.port : 0));
    });
  });

/** How the superuser connects: a socket in a private folder and a password that only the owner can read. */
export async function clusterConnection(cluster: Cluster): Promise<{ host: string; port: number; user: string; password: string }> {
  let password: string;
  try {
    password = await readFile(join(cluster.data, "polis-password"), "utf8");
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "EACCES") throw cause;
    throw new Error(`${cluster.folder} belongs to another user; start Polis as the one who made it`, { cause });
  }
  const port = isWindows ? Number(await readFile(join(cluster.data, "polis-port"), "utf8")) : PORT;
  return { host: cluster.host, port, user: SUPERUSER, password };
}

/** Starts the server as a process of its own, beyond the terminal's signals; it outlives this one. Resolves with its exit. */
export async function spawnServer(cluster: Cluster, settings: Record<string, string>): Promise<{ readonly exit: Promise<number | null> }> {
  await giveTo(cluster.data, cluster.user);
  await disownStaleLock(cluster);
  if ((statSync(cluster.log, { throwIfNoEntry: false })?.size ?? 0) > LOG_BYTES_MAX) await rename(cluster.log, `${cluster.log}.1`);
  const { port } = await clusterConnection(cluster);
  const all = {
    ...settings,
    port: String(port),
    ...(isWindows
      ? { listen_addresses: "127.0.0.1" }
      : { listen_addresses: "", unix_socket_directories: `"${cluster.host}"`, unix_socket_permissions: "0700" }),
  };
  const args = Object.entries(all).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
  const log = await open(cluster.log, "a", 0o600);
  try {
    // On Windows only pg_ctl sheds an administrator's rights, which the server refuses.
    const child = isWindows
      ? spawn(
          cluster.binaries.pgCtl,
          ["start", "-W", "-D", cluster.data, "-o", args.map((arg) => `"${arg.replaceAll('"', '\\"')}"`).join(" ")],
          { detached: true, stdio: ["ignore", log.fd, log.fd] },
        )
      : spawn(cluster.binaries.postgres, ["-D", cluster.data, ...args], {
          ...spawnOptions(cluster),
          detached: true,
          stdio: ["ignore", log.fd, log.fd],
        });
    child.unref();
    const exit = new Promise<number | null>((resolveExit, reject) => {
      child.once("error", reject);
      // pg_ctl leaves at once, the server stays.
      if (!isWindows) child.once("exit", resolveExit);
    });
    exit.catch(() => undefined);
    return { exit };
  } finally {
    await log.close();
  }
}

const spawnOptions = ({ user }: Cluster) => ({ ...user, cwd: "/", env: { PATH: process.env.PATH ?? "", LC_ALL: "C", TZ: "UTC" } });

/** More than any process may have: what the server takes for nobody. */
const NO_PID = String(2 ** 31 - 1);

/**
 * The server refuses to start where the process lives that a lock file names, and takes for it whatever is listed under its number:
 * one that has ended and that its new parent hasn't asked for, or, for a container starts its processes under the same numbers each
 * time, another one altogether. The file itself stays: by the rest of it the server knows
 * whether backends of its forerunner still have its memory.
 */
async function disownStaleLock({ data }: Cluster): Promise<void> {
  if (process.platform !== "linux") return;
  const lock = join(data, "postmaster.pid");
  try {
    const text = readFileSync(lock, "utf8");
    const pid = Number.parseInt(text, 10);
    if (!isServer(pid)) await writeFile(lock, text.replace(/^\d+/, NO_PID));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
}

/** Each mode of pg_ctl with its patience in seconds. */
const STOPS = [
  ["fast", 30],
  ["immediate", 30],
] as const;

/**
 * Fast shutdown: transactions are rolled back, everything is written out. Waits for it. A server that doesn't come to its end is
 * cut short, as by a crash: what was committed is in its log, and the next start takes it from there.
 */
export async function stopServer(cluster: Cluster): Promise<void> {
  let failure: unknown;
  for (const [mode, seconds] of STOPS) {
    if (!(await isServerAlive(cluster))) return;
    try {
      return await run(cluster, cluster.binaries.pgCtl, ["stop", "-D", cluster.data, "-m", mode, "-w", "-t", String(seconds)]);
    } catch (error) {
      // It may have ended by itself meanwhile, or been killed, and then its lock file is left.
      if (!(await isServerAlive(cluster))) return;
      failure = error;
    }
  }
  throw failure;
}

async function isServerAlive(cluster: Cluster): Promise<boolean> {
  const lock = await readFile(join(cluster.data, "postmaster.pid"), "utf8").catch(() => "");
  return isServer(Number.parseInt(lock, 10));
}

/** What isn't called postgres isn't one. */
function isServer(pid: number): boolean {
  if (!(pid > 0) || !isRunning(pid)) return false;
  if (process.platform !== "linux") return true;
  try {
    return readFileSync(`/proc/${pid}/comm`, "utf8").startsWith("postgres");
  } catch {
    return false;
  }
}

/** The last lines of the server's log, for the message of an error. */
export async function logTail(cluster: Cluster): Promise<string> {
  const text = await readFile(cluster.log, "utf8").catch(() => "");
  return text.split("\n").slice(-8).join("\n").trim();
}

function run(cluster: Cluster, program: string, args: readonly string[]): Promise<void> {
  return new Promise((done, reject) => {
    const child = spawn(program, args, isWindows ? {} : spawnOptions(cluster));
    let output = "";
    child.stdout.on("data", (chunk) => (output += chunk));
    child.stderr.on("data", (chunk) => (output += chunk));
    child.once("error", reject);
    child.once("close", (code) =>
      code === 0 ? done() : reject(new Error(`${program} ended with ${code}: ${output.trim().slice(-2_000)}`)),
    );
  });
}
