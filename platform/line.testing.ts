import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { afterAll } from "vitest";

/** `cut`: nobody listens. `mute`: what comes is swallowed. */
type LineState = "open" | "cut" | "mute";

export type Line = {
  /** Where it begins, on 127.0.0.1. */
  readonly port: number;
  line(next: LineState): void;
  /** How many connections there are. */
  sockets(): number;
};

/** A line to an engine that can be broken; it ends after the tests of the file, or of the `describe` that it is opened in. */
export async function openLine(far: { readonly host: string; readonly port: number }): Promise<Line> {
  let line: LineState = "open";
  const sockets = new Set<Socket>();
  const proxy = createServer((near) => {
    if (line === "cut") return near.destroy();
    const there = connect(far.port, far.host);
    const end = () => {
      near.destroy();
      there.destroy();
    };
    for (const socket of [near, there]) socket.on("error", end).on("close", end);
    sockets.add(near);
    near.on("close", () => sockets.delete(near));
    there.pipe(near);
    near.on("data", (data) => void (line !== "mute" && there.write(data)));
  }).listen(0, "127.0.0.1");
  await once(proxy, "listening");
  const close = () => {
    for (const socket of sockets) socket.destroy();
    sockets.clear();
  };
  afterAll(() => {
    close();
    proxy.close();
  });
  return {
    port: (proxy.address() as AddressInfo).port,
    sockets: () => sockets.size,
    line(next) {
      line = next;
      if (next === "cut") close();
    },
  };
}
