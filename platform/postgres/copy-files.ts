import { createHash } from "node:crypto";
import { mkdir, open, readdir } from "node:fs/promises";
import { dirname, join } from "node:path";

/** A file of a backup, by its path in it. */
export type CopiedFile = { readonly path: string; readonly bytes: number; readonly sha256: string };

const CHUNK_BYTES = 1_048_576;
const PARALLEL = 4;

/** Copies a file, to the disk, and returns what was written; undefined when there is none (any more). */
export async function copyFile(from: string, to: string): Promise<Pick<CopiedFile, "bytes" | "sha256"> | undefined> {
  const source = await open(from, "r").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw error;
  });
  if (source === undefined) return undefined;
  try {
    await mkdir(dirname(to), { recursive: true, mode: 0o700 });
    const target = await open(to, "wx", 0o600);
    try {
      const hash = createHash("sha256");
      const buffer = Buffer.allocUnsafe(CHUNK_BYTES);
      let bytes = 0;
      for (;;) {
        const { bytesRead } = await source.read(buffer, 0, CHUNK_BYTES, bytes);
        if (bytesRead === 0) break;
        const chunk = buffer.subarray(0, bytesRead);
        hash.update(chunk);
        await target.writeFile(chunk);
        bytes += bytesRead;
      }
      await target.sync();
      return { bytes, sha256: hash.digest("hex") };
    } finally {
      await target.close();
    }
  } finally {
    await source.close();
  }
}

/** Copies several files at a time; those that are gone by then are left out. */
export async function copyFiles(paths: readonly string[], fromFolder: string, toFolder: string): Promise<CopiedFile[]> {
  const copied: CopiedFile[] = [];
  const waiting = paths.values();
  const work = async (): Promise<void> => {
    for (const path of waiting) {
      const file = await copyFile(join(fromFolder, path), join(toFolder, path));
      if (file !== undefined) copied.push({ path, ...file });
    }
  };
  await Promise.all(Array.from({ length: PARALLEL }, work));
  return copied;
}

/** Writes a small file, to the disk. */
export async function writeDurably(path: string, content: string): Promise<Pick<CopiedFile, "bytes" | "sha256">> {
  const file = await open(path, "wx", 0o600);
  try {
    await file.writeFile(content);
    await file.sync();
  } finally {
    await file.close();
  }
  return { bytes: Buffer.byteLength(content), sha256: createHash("sha256").update(content).digest("hex") };
}

/** Brings the names of everything in a folder to the disk. Windows does that by itself. */
export async function syncFolders(folder: string): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true })) if (entry.isDirectory()) await syncFolders(join(folder, entry.name));
  await syncFolder(folder);
}

export async function syncFolder(folder: string): Promise<void> {
  if (process.platform === "win32") return;
  const handle = await open(folder, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
