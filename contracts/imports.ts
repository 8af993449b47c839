import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { file_buf_validate_validate as validate } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { printProto } from "./print-proto.ts";

const imports = join(import.meta.dirname, "..", ".cache", "contracts");

/**
 * Lays beside our contracts what they import from others, for buf: .cache/contracts/{google/api,buf/validate}. google.api comes
 * as .proto files in the npm package protobufjs; buf.validate comes in no npm package, so its file is printed from the
 * descriptor that @bufbuild/protovalidate carries.
 */
export function layImports(): void {
  write(join(imports, "buf", "validate", "validate.proto"), printProto(validate));
  const google = join(dirname(createRequire(import.meta.url).resolve("protobufjs/package.json")), "google", "api");
  for (const name of ["annotations.proto", "http.proto"]) {
    const text = readFileSync(join(google, name), "utf8");
    // protobufjs' HttpRule is from before `response_body`; the number is that of googleapis.
    const whole = name !== "http.proto" || text.includes("response_body");
    write(join(imports, "google", "api", name), whole ? text : text.replace("string body = 7;", "$&\n    string response_body = 12;"));
  }
}

function write(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}
