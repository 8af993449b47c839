import type { Readable, Writable } from "node:stream";
import type { DescMessage, Message } from "@bufbuild/protobuf";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import type { Race } from "#platform/rpc/race.ts";
import { cancelled } from "#platform/rpc/served-call.ts";

/** A message as gRPC carries it. */
export function encode(schema: DescMessage, message: Message): Buffer {
  const { buffer, byteOffset, byteLength } = toBinary(schema, message);
  return Buffer.from(buffer, byteOffset, byteLength);
}

/** What comes in stays as it is until it is known who sent it. */
export const asBytes = (bytes: Buffer): Buffer => bytes;

export const decoder =
  (schema: DescMessage) =>
  (bytes: Uint8Array): Message =>
    // As a plain Uint8Array: of a Buffer, fields of bytes would be Buffers, whose `slice` shares memory.
    fromBinary(schema, new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength));

type Reading<M> = {
  readonly decode: (bytes: Uint8Array) => M;
  /** Whether an error comes before what is still buffered. */
  readonly failsAtOnce?: (error: unknown) => boolean;
  /** Called at the end; throws where it was none. */
  readonly checkEnd?: () => Promise<void>;
};

/**
 * Reads a stream of grpc-js. Not by the stream's own iterator: grpc-js reports how a call ended while messages may still
 * lie in the stream's buffer, and that iterator would drop them.
 */
export async function* readMessages<M>(stream: Readable, { decode, failsAtOnce, checkEnd }: Reading<M>): AsyncGenerator<M, void> {
  let ended = false;
  let failed: { readonly error: unknown } | undefined;
  let wake = (): void => {};
  const onEnd = (): void => {
    ended = true;
    wake();
  };
  const onError = (error: unknown): void => {
    failed ??= { error };
    wake();
  };
  const onClose = (): void => {
    if (!ended) onError(cancelled());
  };
  const onReadable = (): void => wake();
  stream.on("readable", onReadable).on("end", onEnd).on("close", onClose).on("error", onError);
  try {
    for (;;) {
      if (failed !== undefined && (stream.destroyed || failsAtOnce?.(failed.error) === true)) throw failed.error;
      const bytes: Uint8Array | null = stream.read();
      if (bytes !== null) yield decode(bytes);
      else if (ended) break;
      else {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    }
    if (failed !== undefined) throw failed.error;
    await checkEnd?.();
  } finally {
    stream.off("readable", onReadable).off("end", onEnd).off("close", onClose);
    // The listener for errors stays: one that nobody listens to would end the process.
  }
}

/** Writes messages as fast as the other side reads them, until the source ends or `race` is lost; then it ends the source. */
export async function writeMessages(stream: Writable, schema: DescMessage, messages: AsyncIterable<Message>, race: Race): Promise<void> {
  const source = messages[Symbol.asyncIterator]();
  let complete = false;
  try {
    for (;;) {
      const next = await race.against(source.next());
      if (next.done === true) break;
      if (!stream.write(encode(schema, next.value))) await race.against(drained(stream));
    }
    complete = true;
  } finally {
    if (!complete) source.return?.().then(undefined, () => {});
  }
}

const drained = (stream: Writable): Promise<void> =>
  new Promise((resolve) => {
    const done = (): void => {
      stream.off("drain", done).off("close", done);
      resolve();
    };
    stream.on("drain", done).on("close", done);
  });
