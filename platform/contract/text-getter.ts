import { type DescField, type DescMessage, ScalarType } from "@bufbuild/protobuf";

/**
 * Reads the text that the field at `path` (`data.order_id`) has in a message. Throws where the path names no field of that kind, and
 * where a message has nothing there.
 * @param option whose word the path is, as an error names it: `polis.orders.v1.FollowUpOrder: \`concurrency_key\``
 */
export function textGetter(schema: DescMessage, path: string, option: string): (message: object) => string {
  const textOf = textOrNone(schema, path, option);
  return (message) => {
    const value = textOf(message);
    if (value === "") throw new Error(`${option}: \`${path}\` is empty`);
    return value;
  };
}

/** The same, and an empty text where a message has nothing there. */
export function textOrNone(schema: DescMessage, path: string, option: string): (message: object) => string {
  const names: string[] = [];
  let at: DescMessage | undefined = schema;
  let field: DescField | undefined;
  for (const part of path.split(".")) {
    field = at?.fields.find((candidate) => candidate.name === part);
    if (field === undefined) throw new Error(`${option}: \`${path}\` is no field of ${schema.typeName}`);
    names.push(field.localName);
    at = field.fieldKind === "message" ? field.message : undefined;
  }
  if (field?.fieldKind !== "scalar" || field.scalar !== ScalarType.STRING) throw new Error(`${option}: \`${path}\` must be a string`);
  return (message) => {
    let value: unknown = message;
    for (const name of names) value = (value as Record<string, unknown> | undefined)?.[name];
    return typeof value === "string" ? value : "";
  };
}
