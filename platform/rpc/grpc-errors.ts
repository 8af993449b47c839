import { create, fromBinary, type Message, toBinary } from "@bufbuild/protobuf";
import { type Any, AnySchema, anyPack, anyUnpack, durationFromMs, durationMs } from "@bufbuild/protobuf/wkt";
import { Metadata, type ServiceError } from "@grpc/grpc-js";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "#contracts/google/rpc/error_details_pb.ts";
import { type Status as RpcStatus, StatusSchema } from "#contracts/google/rpc/status_pb.ts";
import { CallError, type Status, statuses } from "#platform/rpc/call-error.ts";
import { cancelledBefore, deadlineExceeded } from "#platform/rpc/served-call.ts";

// A CallError over gRPC: its status by number, the rest as google.rpc.Status in the trailer `grpc-status-details-bin`
// (google.rpc.ErrorInfo, BadRequest, RetryInfo), which clients of other languages read with their own libraries.

const DETAILS = "grpc-status-details-bin";
const DOMAIN = "polis";
/** What stands in a header has a bound. */
const MESSAGE_LENGTH_MAX = 1000;

export type GrpcStatus = { readonly code: number; readonly details: string; readonly metadata: Metadata };

/** Any error as grpc-js sends it. Never throws: who answers with an error has nothing left to answer with. */
export function toGrpc(error: unknown): GrpcStatus {
  try {
    return encoded(CallError.from(error));
  } catch {
    const { message: details } = CallError.from(undefined);
    return { code: statuses.INTERNAL.grpc, details, metadata: new Metadata() };
  }
}

function encoded(error: CallError): GrpcStatus {
  const code = statuses[error.status].grpc;
  const message = error.message.slice(0, MESSAGE_LENGTH_MAX).toWellFormed();
  const details: Any[] = [anyPack(ErrorInfoSchema, create(ErrorInfoSchema, { reason: error.code, domain: DOMAIN }))];
  if (error.violations.length > 0) {
    const fieldViolations = error.violations.map(({ field, rule, message: description }) => ({ field, description, reason: rule }));
    details.push(anyPack(BadRequestSchema, create(BadRequestSchema, { fieldViolations })));
  }
  if (error.retryAfterMs !== undefined)
    details.push(anyPack(RetryInfoSchema, create(RetryInfoSchema, { retryDelay: durationFromMs(error.retryAfterMs) })));
  const metadata = new Metadata();
  metadata.set(DETAILS, Buffer.from(toBinary(StatusSchema, create(StatusSchema, { code, message, details }))));
  return { code, details: message, metadata };
}

const byNumber = new Map<number, Status>(Object.entries(statuses).map(([name, { grpc }]) => [grpc, name as Status]));

/** What the caller gets to read where gRPC itself failed; what happened exactly is in the cause. */
const texts: Partial<Record<Status, string>> = {
  UNAVAILABLE: "The service can't be reached.",
  UNIMPLEMENTED: "The service doesn't know this method.",
  RESOURCE_EXHAUSTED: "The message is too large, or there are too many.",
};

/** What grpc-js reports, as the CallError that was sent; `deadlineMs` is the call's, in milliseconds since the epoch. */
export function fromGrpc(error: ServiceError, deadlineMs: number): CallError {
  const status = byNumber.get(error.code) ?? "INTERNAL";
  const sent = readDetails(error);
  const info = find(sent, ErrorInfoSchema);
  if (sent === undefined || info?.domain !== DOMAIN) {
    if (status === "DEADLINE_EXCEEDED") return deadlineExceeded();
    if (status === "CANCELLED") return cancelledBefore(deadlineMs);
    return new CallError(status, status.toLowerCase(), texts[status] ?? "The call failed.", { cause: error });
  }
  const retryDelay = find(sent, RetryInfoSchema)?.retryDelay;
  return new CallError(status, info.reason, sent.message, {
    violations: (find(sent, BadRequestSchema)?.fieldViolations ?? []).map(({ field, reason, description }) => ({
      field,
      rule: reason,
      message: description,
    })),
    ...(retryDelay === undefined ? {} : { retryAfterMs: durationMs(retryDelay) }),
  });
}

function readDetails(error: ServiceError): RpcStatus | undefined {
  const [bytes] = error.metadata?.get(DETAILS) ?? [];
  if (!(bytes instanceof Uint8Array)) return undefined;
  try {
    return fromBinary(StatusSchema, bytes);
  } catch {
    // Not from us: then there is only the number.
    return undefined;
  }
}

type DetailSchema = typeof ErrorInfoSchema | typeof BadRequestSchema | typeof RetryInfoSchema;

function find<S extends DetailSchema>(status: RpcStatus | undefined, schema: S): ReturnType<typeof create<S>> | undefined {
  for (const detail of status?.details ?? []) {
    const found: Message | undefined = anyUnpack(create(AnySchema, detail), schema);
    if (found !== undefined) return found as ReturnType<typeof create<S>>;
  }
  return undefined;
}
