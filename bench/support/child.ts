import { type ChildProcess, fork } from "node:child_process";
import { processCpuUs } from "./cpu.ts";
import { nodeOptions } from "./node-options.ts";
import { ended } from "./polis.ts";

/** A script of the bench in a process of its own, which does one job at a time and answers. */
export type Child<Job, Result> = { ask(job: Job): Promise<Result>; cpuUs(): number | undefined };

/** Starts a script that calls `answerJobs`; `parts` ends it. */
export function startChild<Job, Result>(script: string, args: readonly string[], parts: AsyncDisposableStack): Child<Job, Result> {
  const child: ChildProcess = fork(script, args, {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
    execArgv: [...nodeOptions],
  });
  parts.defer(() => ended(child, "SIGTERM"));
  return {
    ask: (job) =>
      new Promise((resolve, reject) => {
        const onExit = (code: number | null): void => reject(new Error(`${script} ended with ${code} in the midst of its job`));
        child.once("exit", onExit);
        child.once("message", (result) => {
          child.off("exit", onExit);
          resolve(result as Result);
        });
        child.send(job as object);
      }),
    cpuUs: () => processCpuUs(child.pid ?? 0),
  };
}

/** In the script: does each job that is asked for, and ends with who asks. A job that fails ends the process. */
export function answerJobs<Job, Result>(run: (job: Job) => Promise<Result>, end: () => Promise<void>): void {
  process.on("message", (job) => void run(job as Job).then((result) => process.send?.(result as object)));
  const leave = (): void => void end().finally(() => process.exit(0));
  process.once("disconnect", leave);
  process.once("SIGTERM", leave);
  // A terminal signals the whole group: who asked decides.
  process.on("SIGINT", () => undefined);
}
