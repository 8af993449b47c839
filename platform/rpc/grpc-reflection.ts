import { type DescFile, type DescService, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import type { Server } from "@grpc/grpc-js";
import { ReflectionService } from "@grpc/reflection";

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
  type Definitions = ConstructorParameters<typeof ReflectionService>[0];
  const reflection = new ReflectionService({ files: { fileDescriptorProtos: [...encodings.values()] } } as unknown as Definitions, {
    services: services.map((service) => service.typeName),
  });
  restoreOptions(reflection, encodings);
  reflection.addToServer(server as unknown as Parameters<ReflectionService["addToServer"]>[0]);
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
