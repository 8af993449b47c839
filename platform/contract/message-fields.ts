import { type DescField, type DescMessage, type DescOneof, ScalarType } from "@bufbuild/protobuf";
import { isWrapperDesc } from "@bufbuild/protobuf/wkt";

/**
 * What a field holds in JavaScript, as protobuf-es has it: messages, scalars (enums are int32), or JSON where the type is
 * google.protobuf.Struct. Wrappers (google.protobuf.StringValue …) are their bare scalar in a field of their own.
 */
export type Content =
  | { readonly kind: "message"; readonly message: DescMessage }
  | { readonly kind: "scalar"; readonly scalar: ScalarType; readonly longAsString: boolean }
  | { readonly kind: "json" };

/** The content of a field, or of one item of a list or map. */
export function contentOf(field: DescField): Content {
  if (field.message !== undefined) {
    if (field.message.typeName === "google.protobuf.Struct" && field.parent.typeName !== "google.protobuf.Value") return { kind: "json" };
    const wrapped =
      field.fieldKind === "message" && field.oneof === undefined && isWrapperDesc(field.message) ? field.message.fields[0] : undefined;
    return wrapped?.scalar === undefined
      ? { kind: "message", message: field.message }
      : { kind: "scalar", scalar: wrapped.scalar, longAsString: false };
  }
  if (field.enum !== undefined) return { kind: "scalar", scalar: ScalarType.INT32, longAsString: false };
  return {
    kind: "scalar",
    scalar: field.scalar ?? ScalarType.STRING,
    longAsString: "longAsString" in field ? field.longAsString : false,
  };
}

export const isOneof = (member: DescField | DescOneof): member is DescOneof => member.kind === "oneof";
