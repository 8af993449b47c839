/** Where something is to listen, and the settings by which its port is chosen, for a person. */
export type Place = { readonly host: string; readonly port: number; readonly portSettings: string };

/** Listens by `listen`. What is wrong with the place is told by the settings that chose it. */
export async function listenAt<T>(place: Place, listen: () => Promise<T>): Promise<T> {
  try {
    return await listen();
  } catch (cause) {
    const fault = faultOf(place, codeOf(cause));
    throw fault === undefined ? cause : new Error(fault, { cause });
  }
}

function faultOf({ host, port, portSettings }: Place, code: string | undefined): string | undefined {
  switch (code) {
    case "EADDRINUSE":
      return `port ${port} of ${host} is taken; choose another by ${portSettings}`;
    case "EACCES":
      return `port ${port} of ${host} isn't open to this user; choose another by ${portSettings}`;
    case "EADDRNOTAVAIL":
      return `${host} is no address of this machine; choose another by --host or HOST`;
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return `the host ${host} isn't known; choose another by --host or HOST`;
    default:
      return undefined;
  }
}

/** grpc-js tells what happened in its message alone. */
function codeOf(error: unknown): string | undefined {
  const { code, message } = error as NodeJS.ErrnoException;
  if (typeof code === "string") return code;
  return message.startsWith("Name resolution failed") ? "ENOTFOUND" : /\bE[A-Z]{4,}\b/.exec(message)?.[0];
}
