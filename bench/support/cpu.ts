import { readdirSync, readFileSync } from "node:fs";

/** Linux counts CPU time in /proc in hundredths of a second, whatever its clock. */
const TICK_US = 10_000;

type Times = { readonly parent: number; readonly ownUs: number; readonly childrenUs: number };

/** What the kernel says of a process; undefined where there is none, or no /proc. */
function timesOf(pid: number | string): Times | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The name before the last parenthesis may hold anything; after it come state, parent, …
    const fields = text
      .slice(text.lastIndexOf(")") + 2)
      .split(" ")
      .map(Number);
    const us = (first: number, second: number): number => ((fields[first] ?? 0) + (fields[second] ?? 0)) * TICK_US;
    return { parent: fields[1] ?? 0, ownUs: us(11, 12), childrenUs: us(13, 14) };
  } catch {
    return undefined;
  }
}

/** CPU time that a process has used, in µs; undefined where the system doesn't tell. */
export const processCpuUs = (pid: number): number | undefined => timesOf(pid)?.ownUs;

/** CPU time of a process and its children, those that ended included, in µs: a server of PostgreSQL with its backends. */
export function familyCpuUs(pid: number): number | undefined {
  const parent = timesOf(pid);
  if (parent === undefined) return undefined;
  let total = parent.ownUs + parent.childrenUs;
  for (const name of readdirSync("/proc")) {
    const times = /^\d+$/.test(name) ? timesOf(name) : undefined;
    if (times?.parent === pid) total += times.ownUs;
  }
  return total;
}
