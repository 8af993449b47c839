// A process of the drills of tasks: a service that has nothing but tasks, begun where it is told to. What it does is in drill-tasks.ts.
import { openTaskProcess } from "./drill-tasks.ts";

const running = await openTaskProcess(process.env, { works: true });
process.once("disconnect", () => process.exit(0));
process.once("SIGTERM", () => void running.close().then(() => process.exit(0)));
process.stdout.write(`${JSON.stringify({ msg: "ready" })}\n`);
