import { flushCompileCache } from "node:module";
import { isLoopback } from "#platform/config/setting-types.ts";
import { type RunningProcess, startProcess } from "#platform/process/start-process.ts";
import type { Demo } from "#platform/system.ts";
import type { Log } from "#platform/telemetry/log.ts";
import { chooseServices } from "./choose-services.ts";
import { defineCommand, noPositionals } from "./command.ts";
import { openSettings, settingOptions } from "./process-settings.ts";
import { release } from "./release.ts";
import { stopOnSignals } from "./stop-on-signals.ts";
import { systems } from "./systems.ts";

export const start = defineCommand({
  usage: [
    "start [--system NAME | --services NAME,NAME…] [--port N] [--grpc-port N] [--host ADDRESS] [--public-url URL] [--data FOLDER] [--no-demo]",
  ],
  text: `
Runs services until it is told to stop (SIGTERM or SIGINT: what is in flight is finished; a second one ends it at once).

  --system NAME       the services of this system; all systems unless said: ${systems.map(({ name }) => name).join(", ")}
  --services A,B      just these; their peers answer elsewhere, see <SERVICE>_URL in \`polis config\`
  --port N            port of HTTP (PORT)
  --grpc-port N       port of gRPC (GRPC_PORT)
  --host ADDRESS      what both listen on (HOST)
  --public-url URL    where clients reach the gateway (POLIS_PUBLIC_URL)
  --data FOLDER       the data folder (POLIS_DATA)
  --no-demo           leaves out the data to look at, which whole systems on the embedded PostgreSQL get at their first start,
                      where nobody but this machine reaches them`,
  options: {
    ...settingOptions,
    system: { type: "string" },
    services: { type: "string" },
    "no-demo": { type: "boolean", default: false },
  },
  async run({ system, services, "no-demo": noDemo, ...flags }, positionals) {
    noPositionals(positionals);
    const chosen = chooseServices(systems, { system, names: services });
    const { settings, log } = await openSettings(flags);
    dieOnFaults(log);
    const stopping = stopOnSignals(log);
    const running = await startProcess({
      services: chosen.services,
      edge: chosen.edge,
      system: chosen.system,
      settings,
      environment: process.env,
      release,
      log,
      onLost(error) {
        log.fatal({ err: error }, "can't go on");
        process.exit(1);
      },
    });
    let demo: Promise<void> | undefined;
    stopping.stopWith(async () => {
      await demo;
      await running.stop();
    });
    if (stopping.isAsked) return;
    const { http, grpc } = running.urls;
    const hosted = [...chosen.services, ...(chosen.edge === undefined ? [] : [chosen.edge])].map(({ name }) => name);
    log.info({ release, services: hosted, http, grpc, database: running.database }, "ready");
    if (chosen.edge !== undefined) log.info(`REST at ${http}, its documentation at ${http}/docs`);
    const isDemo = !noDemo && services === undefined && settings.postgresUrl === undefined;
    if (isDemo && isLoopback(settings.host)) demo = putDemos(chosen.demos, running, log);
    else if (isDemo) log.warn("no data to look at: everybody knows the passwords of its users, and others than this machine get here");
    await demo;
    // Now rather than at the end, which may be sudden: the next start is the faster for it.
    flushCompileCache();
  },
});

/** A start doesn't fail for want of something to look at. */
async function putDemos(demos: readonly Demo[], running: RunningProcess, log: Log): Promise<void> {
  for (const put of demos) {
    try {
      log.info(await put(running.clientFor));
    } catch (error) {
      log.warn({ err: error }, "no data to look at");
    }
  }
}

/** What nobody caught leaves a state that nobody knows: it is logged, and the process ends. */
function dieOnFaults(log: Log): void {
  for (const event of ["uncaughtException", "unhandledRejection"] as const)
    process.on(event, (error) => {
      log.fatal({ err: error }, event);
      process.exit(1);
    });
}
