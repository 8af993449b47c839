import { type DescFile, type DescService, fromBinary, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import type { Server } from "@grpc/grpc-js";
import { ReflectionService } from "@grpc/reflection";
import { service as health } from "grpc-health-check";
import { file_google_rpc_error_details } from "#contracts/google/rpc/error_details_pb.ts";

/** Tells strangers what the server's contracts are (grpc.reflection v1 and v1alpha), with all their options and imports. */
export function addReflection(server: Server, services: readonly DescService[]): void {
  const encodings = new Map<string, Buffer>();
  const collect = (file: DescFile): void => {
    const name = `${file.name}.proto`;
    if (encodings.has(name)) return;
    encodings.set(name, Buffer.from(toBinary(FileDescriptorProtoSchema, file.proto)));
    file.dependencies.forEach(collect);
  };
  for (const service of services) collect(service.file);
  // The details of errors, so that a client can show them.
  collect(file_google_rpc_error_details);
  for (const bytes of healthFiles()) encodings.set(fromBinary(FileDescriptorProtoSchema, bytes).name, bytes);
  type Definitions = ConstructorParameters<typeof ReflectionService>[0];
  const reflection = new ReflectionService({ files: { fileDescriptorProtos: [...encodings.values()] } } as unknown as Definitions, {
    services: [...services.map((service) => service.typeName), HEALTH],
  });
  restoreOptions(reflection, encodings);
  reflection.addToServer(server as unknown as Parameters<ReflectionService["addToServer"]>[0]);
}

const HEALTH = "grpc.health.v1.Health";

/** The health service is loaded by its own package, with protobufjs. */
function healthFiles(): readonly Buffer[] {
  const check = health.Check as unknown as { readonly requestType: { readonly fileDescriptorProtos: readonly Buffer[] } };
  return check.requestType.fileDescriptorProtos;
}

type Implementation = { readonly files: Record<string, object>; readonly fileEncodings: Map<object, Uint8Array> };

/** The package decodes and encodes the files once with protobufjs, which drops every option that it doesn't know: all of ours. */
function restoreOptions(reflection: ReflectionService, encodings: ReadonlyMap<string, Buffer>): void {
  const { v1, v1Alpha } = reflection as unknown as { v1: Implementation; v1Alpha: Implementation };
  for (const { files, fileEncodings } of [v1, v1Alpha]) {
    for (const [name, bytes] of encodings) {
      const file = files[name];
      if (file === undefined || !fileEncodings.has(file)) throw new Error(`@grpc/reflection doesn't keep ${name} where it did`);
      fileEncodings.set(file, bytes);
    }
  }
}
