import { type DescField, type DescMessage, type DescOneof, ScalarType } from "@bufbuild/protobuf";
import { contentOf, isOneof } from "#platform/contract/message-fields.ts";
import type { Violation } from "#platform/rejection.ts";

// What no text may hold, whatever the contract says of it: a lone surrogate, which UTF-8 can't carry and the wire would
// change silently; and NUL, which PostgreSQL can't store. Both are refused at the edge by name.

type Check = (value: unknown) => boolean;

const checks = new WeakMap<DescMessage, Check | "none">();

/** Whether every string in the message is well formed and without NUL. Compiled once for each type: it runs with every call. */
export function textsAreSound(schema: DescMessage, message: unknown): boolean {
  const check = checkOf(schema);
  return check === "none" || check(message);
}

const isSound = (text: string): boolean => text.isWellFormed() && !text.includes("\0");

function checkOf(schema: DescMessage): Check | "none" {
  let check = checks.get(schema);
  if (check === undefined) {
    const fields: [string, Check][] = [];
    // Known before its fields are, so that a type that holds itself finds itself.
    const whole: Check = (message) => {
      for (const [name, sound] of fields) {
        const value = (message as Record<string, unknown>)[name];
        if (value !== undefined && !sound(value)) return false;
      }
      return true;
    };
    checks.set(schema, whole);
    for (const member of schema.members) {
      const sound = memberCheck(member);
      if (sound !== undefined) fields.push([member.localName, sound]);
    }
    check = fields.length === 0 ? "none" : whole;
    checks.set(schema, check);
  }
  return check;
}

function memberCheck(member: DescField | DescOneof): Check | undefined {
  if (isOneof(member)) {
    const cases = new Map(
      member.fields.flatMap((field) => ((check) => (check === undefined ? [] : [[field.localName, check]]))(contentCheck(field))),
    );
    if (cases.size === 0) return undefined;
    return (oneof) => {
      const { case: chosen, value } = oneof as { case: string | undefined; value: unknown };
      return chosen === undefined || (cases.get(chosen)?.(value) ?? true);
    };
  }
  const content = contentCheck(member);
  if (member.fieldKind === "list") return content && ((list) => (list as unknown[]).every(content));
  if (member.fieldKind !== "map") return content;
  const keysAreText = member.mapKey === ScalarType.STRING;
  if (!keysAreText && content === undefined) return undefined;
  return (map) =>
    Object.entries(map as object).every(([key, value]) => (!keysAreText || isSound(key)) && (content === undefined || content(value)));
}

function contentCheck(field: DescField): Check | undefined {
  const content = contentOf(field);
  if (content.kind === "json") return jsonIsSound;
  if (content.kind === "scalar") return content.scalar === ScalarType.STRING ? (isSound as Check) : undefined;
  const check = checkOf(content.message);
  return check === "none" ? undefined : check;
}

function jsonIsSound(value: unknown): boolean {
  if (typeof value === "string") return isSound(value);
  if (typeof value !== "object" || value === null) return true;
  return Object.entries(value).every(([key, item]) => isSound(key) && jsonIsSound(item));
}

/** Every string that isn't sound, with its path and the broken rule (`string.well_formed`, `string.no_nul`). */
export function textViolations(schema: DescMessage, message: object): Violation[] {
  const found: Violation[] = [];
  visitMessage(schema, message, "", found);
  return found;
}

function visitMessage(schema: DescMessage, message: object, path: string, found: Violation[]): void {
  for (const field of schema.fields) {
    const holder = message as Record<string, unknown>;
    const oneof = field.oneof === undefined ? undefined : (holder[field.oneof.localName] as { case?: string; value?: unknown } | undefined);
    const value = field.oneof === undefined ? holder[field.localName] : oneof?.case === field.localName ? oneof.value : undefined;
    if (value === undefined || value === null) continue;
    const at = path === "" ? field.jsonName : `${path}.${field.jsonName}`;
    if (field.fieldKind === "list") {
      (value as unknown[]).forEach((item, index) => {
        visitContent(field, item, `${at}[${index}]`, found);
      });
    } else if (field.fieldKind === "map") {
      for (const [key, item] of Object.entries(value)) {
        visitText(key, `${at}[${JSON.stringify(key)}]`, found);
        visitContent(field, item, `${at}[${JSON.stringify(key)}]`, found);
      }
    } else visitContent(field, value, at, found);
  }
}

function visitContent(field: DescField, value: unknown, path: string, found: Violation[]): void {
  const content = contentOf(field);
  if (content.kind === "message") visitMessage(content.message, value as object, path, found);
  else if (content.kind === "json") visitJson(value, path, found);
  else if (typeof value === "string") visitText(value, path, found);
}

function visitJson(value: unknown, path: string, found: Violation[]): void {
  if (typeof value === "string") visitText(value, path, found);
  else if (typeof value === "object" && value !== null) {
    for (const [key, item] of Object.entries(value)) {
      const at = Array.isArray(value) ? `${path}[${key}]` : `${path}[${JSON.stringify(key)}]`;
      visitText(key, at, found);
      visitJson(item, at, found);
    }
  }
}

function visitText(text: string, path: string, found: Violation[]): void {
  if (!text.isWellFormed())
    found.push({ field: path, rule: "string.well_formed", message: "must be well-formed Unicode: it holds half of a surrogate pair" });
  if (text.includes("\0")) found.push({ field: path, rule: "string.no_nul", message: "must not hold the character NUL" });
}
