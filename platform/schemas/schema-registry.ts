import { setTimeout as sleep } from "node:timers/promises";
import type { DescMessage } from "@bufbuild/protobuf";
import { neededImports, printProto } from "#contracts/print-proto.ts";
import type { PlatformSettings } from "#platform/config/platform-settings.ts";
import { RegistryAwayError, RegistryRefusedError, registryApi } from "#platform/schemas/registry-api.ts";
import { frameHeader } from "#platform/schemas/wire-format.ts";
import type { Log } from "#platform/telemetry/log.ts";

const CONFLICT = 409;
const CONFLICT_TRIES_MAX = 4;
const CONFLICT_PAUSE_MS = 200;
/** It stands in four bytes. */
const SCHEMA_ID_MAX = 0xffff_ffff;

type Compatibility = PlatformSettings["schemaRegistry"]["compatibility"];

export type SchemaRegistryOptions = {
  /** Of Confluent's API; a user and a password may stand in it. */
  readonly url: string;
  /** What a new version of a schema must be to those before it; `keep`: as the registry has it. */
  readonly compatibility: Compatibility;
  readonly log: Log;
  /** The pause after so many failures in a row. */
  readonly pauseMs: (failures: number) => number;
  /** The registry was away when it was asked to take a schema, and has refused it since. */
  readonly onRefused: (error: Error) => void;
};

/** The schemas of messages that this process publishes, in the registry from which others learn to read them. */
export type SchemaRegistry = {
  /**
   * Registers messages under their full names, each with its whole file. While the registry is away it goes on trying beside the
   * caller. Throws, naming message and reason, where the registry refuses one.
   */
  register(messages: readonly DescMessage[]): Promise<void>;
  /**
   * What stands in front of a message of this type. A type that isn't registered from here, as when newer code has left an event
   * for us to publish, is looked up. Throws while there is no schema of it.
   */
  headerOf(type: string): Promise<Uint8Array>;
  /** Ends what is still tried. */
  close(): Promise<void>;
};

export function openSchemaRegistry({ url, compatibility, log, pauseMs, onRefused }: SchemaRegistryOptions): SchemaRegistry {
  const closing = new AbortController();
  const api = registryApi(url, closing.signal);
  const headers = new Map<string, Uint8Array>();
  const waiting = new Set<DescMessage>();
  let trying: Promise<void> | undefined;

  const registerOne = async (message: DescMessage): Promise<void> => {
    const subject = encodeURIComponent(message.typeName);
    const schema = schemaOf(message);
    for (let tries = 1; ; tries++) {
      try {
        if (compatibility !== "keep") await api.ask("PUT", `/config/${subject}`, { compatibility });
        const answer = await api.ask("POST", `/subjects/${subject}/versions`, { schemaType: "PROTOBUF", schema });
        headers.set(message.typeName, frameHeader(idOf(answer), [message.file.messages.indexOf(message)]));
        return;
      } catch (error) {
        if (!(error instanceof RegistryRefusedError)) throw error;
        // Two who start at once and register the same thing can be in each other's way; what is incompatible stays so.
        if (error.status !== CONFLICT || tries === CONFLICT_TRIES_MAX) throw refusal(message, error, compatibility);
        await sleep(CONFLICT_PAUSE_MS * Math.random());
      }
    }
  };

  const registerAll = async (): Promise<void> => {
    for (const message of waiting) {
      await registerOne(message);
      waiting.delete(message);
    }
  };

  const keepTrying = async (): Promise<void> => {
    for (let failures = 1; !closing.signal.aborted; failures++) {
      await sleep(pauseMs(failures), undefined, { signal: closing.signal }).catch(() => undefined);
      if (closing.signal.aborted) return;
      try {
        await registerAll();
        log.info("the schema registry is back, and has our schemas");
        return;
      } catch (error) {
        // In the midst of its own roll-out, a proxy may answer in its stead.
        if (error instanceof RegistryAwayError || isOdd(error)) {
          log.warn({ err: error }, "the schema registry isn't back yet");
          continue;
        }
        onRefused(error as Error);
        return;
      }
    }
  };

  const lookUp = async (type: string): Promise<Uint8Array> => {
    const latest = await api.ask("GET", `/subjects/${encodeURIComponent(type)}/versions/latest`).catch((cause: unknown) => {
      throw cause instanceof RegistryRefusedError && cause.status === 404 ? notRegistered(type, cause) : cause;
    });
    const { schema } = latest as { schema?: unknown };
    return frameHeader(idOf(latest), [placeIn(String(schema), type)]);
  };

  return {
    async register(messages) {
      for (const message of messages) waiting.add(message);
      try {
        await registerAll();
      } catch (error) {
        if (!(error instanceof RegistryAwayError)) throw error;
        log.warn({ err: error }, "the schema registry is away; events wait in their outboxes until it has our schemas");
        trying = keepTrying();
      }
    },
    async headerOf(type) {
      const known = headers.get(type);
      if (known !== undefined) return known;
      if ([...waiting].some(({ typeName }) => typeName === type)) throw notRegistered(type);
      const found = await lookUp(type);
      headers.set(type, found);
      return found;
    },
    async close() {
      closing.abort();
      await trying;
    },
  };
}

const isOdd = (error: unknown): boolean => error instanceof Error && error.cause instanceof RegistryRefusedError && !error.cause.isVerdict;

const notRegistered = (type: string, cause?: unknown): Error => new Error(`the schema registry has no schema of ${type} yet`, { cause });

/** The text of the message's file. Throws where it couldn't be read by itself, or the message isn't one of its first level. */
function schemaOf(message: DescMessage): string {
  const { file, typeName } = message;
  const foreign = neededImports(file).find((path) => !path.startsWith("google/protobuf/"));
  if (foreign !== undefined)
    throw new Error(
      `${typeName}: ${file.name}.proto needs ${foreign}, but a file of events must stand by itself, as the registry holds it`,
    );
  if (!file.messages.includes(message)) throw new Error(`${typeName}: an event can't lie within another message`);
  return printProto(file);
}

function idOf(answer: unknown): number {
  const { id } = answer as { id?: unknown };
  if (typeof id !== "number" || !Number.isInteger(id) || id < 0 || id > SCHEMA_ID_MAX)
    throw new RegistryRefusedError(200, "it answers without an id of a schema", false);
  return id;
}

/** The place of a message among those of a file's text; nested ones are indented in it. */
function placeIn(schema: string, type: string): number {
  const names = [...schema.matchAll(/^message\s+(\w+)/gm)].map(([, name]) => name);
  const place = names.indexOf(type.slice(type.lastIndexOf(".") + 1));
  if (place < 0) throw new Error(`the registry's schema of ${type} doesn't hold it`);
  return place;
}

const refusal = (message: DescMessage, cause: RegistryRefusedError, compatibility: Compatibility): Error =>
  new Error(`the schema registry (SCHEMA_REGISTRY_URL) refuses ${message.typeName}: ${whyRefused(message, cause, compatibility)}`, {
    cause,
  });

function whyRefused({ file }: DescMessage, { status, message }: RegistryRefusedError, compatibility: Compatibility): string {
  if (status === CONFLICT) return `${file.name}.proto can't follow the versions that are registered (${compatibility}): ${message}`;
  if (status === 200) return message;
  return status === 401 || status === 403 ? `it doesn't let us in: ${message}` : `it answers ${status}: ${message}`;
}
