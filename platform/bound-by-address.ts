import type { Server, Socket } from "node:net";
import { countedAs, readAddress } from "#platform/edge/networks.ts";

/**
 * Closes what is over `max` connections from one address: one client can't have all that a server has. `isSpared`: whose
 * connections are many clients'.
 */
export function boundByAddress(
  server: Server,
  { max, isSpared = () => false, onClosed = () => undefined }: { max: number; isSpared?(address: string): boolean; onClosed?(): void },
): void {
  const open = new Map<string, number>();
  server.on("connection", (socket: Socket) => {
    // Undefined where it has ended already.
    const { remoteAddress } = socket;
    if (remoteAddress === undefined) return;
    const address = readAddress(remoteAddress) ?? remoteAddress;
    if (isSpared(address)) return;
    const counted = countedAs(address);
    const now = open.get(counted) ?? 0;
    if (now >= max) {
      onClosed();
      socket.destroy();
      return;
    }
    open.set(counted, now + 1);
    socket.once("close", () => {
      const left = (open.get(counted) ?? 1) - 1;
      if (left > 0) open.set(counted, left);
      else open.delete(counted);
    });
  });
}
