import type { Socket } from "node:net";
import type { ChannelCredentials } from "@grpc/grpc-js";

/** How long a peer that has taken a connection may take to say its first word. */
export const GREETING_MS = 5_000;

type SecureConnector = ReturnType<ChannelCredentials["_createSecureConnector"]>;

/**
 * These credentials, for peers that greet in time. grpc-js waits for ever for the first frame of one that takes a connection and is
 * mute (a process that is frozen, a machine that has gone, a balancer with nobody behind it), and meanwhile tries no other.
 */
export function greetedInTime(credentials: ChannelCredentials, greetingMs: number): ChannelCredentials {
  const own: ChannelCredentials = Object.create(credentials);
  own._createSecureConnector = (...about) => inTime(credentials._createSecureConnector(...about), greetingMs);
  return own;
}

const inTime = (connector: SecureConnector, greetingMs: number): SecureConnector => ({
  waitForReady: () => connector.waitForReady(),
  getCallCredentials: () => connector.getCallCredentials(),
  destroy: () => connector.destroy(),
  async connect(socket) {
    const shaken = setTimeout(() => socket.destroy(), greetingMs);
    try {
      const connected = await connector.connect(socket);
      cutIfMute(connected.socket, greetingMs);
      return connected;
    } finally {
      clearTimeout(shaken);
    }
  },
});

function cutIfMute(socket: Socket, greetingMs: number): void {
  const late = setTimeout(() => {
    if (socket.bytesRead === 0) socket.destroy();
  }, greetingMs);
  late.unref();
  socket.once("close", () => clearTimeout(late));
}
