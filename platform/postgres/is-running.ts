import { readFileSync } from "node:fs";

/**
 * Whether there is a process with this number that still does something. One that has ended is listed until its parent has asked
 * for it; where that is a container's first process, which may never ask, for good.
 */
export function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EPERM") return false;
  }
  if (process.platform !== "linux") return true;
  try {
    // proc(5): the state comes behind the name, which is in parentheses and may hold some.
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return !/^\) [ZX]/.test(stat.slice(stat.lastIndexOf(")")));
  } catch {
    return false;
  }
}
