import { join } from "node:path";
import { type Child, startChild } from "./child.ts";
import type { LoadDone, LoadJob } from "./load-process.ts";

/** Puts load on an HTTP server, from a process of its own on this machine. */
export const startLoad = (parts: AsyncDisposableStack): Child<LoadJob, LoadDone> =>
  startChild(join(import.meta.dirname, "load-process.ts"), [], parts);

/** What every order of a bench over HTTP asks for. */
export const orderBody = { amount: "1", currency: "RUB", description: "Two tickets to the opera" };
