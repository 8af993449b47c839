import type { Registry } from "@bufbuild/protobuf";
import type { Violation } from "#platform/rejection.ts";
import { type JsonObject, type JsonTree, NumberText } from "#platform/rest/json-text.ts";
import { VIOLATIONS_MAX } from "#platform/rpc/validation.ts";

/** Where a value stands, from the inside out. */
export type Place = { readonly up: Place | undefined; readonly key: string | number };

/** Takes what is wrong; stops keeping at a bound, so that a body of a million faults has a short answer. */
export class Faults {
  readonly registry: Registry;
  readonly list: Violation[] = [];

  constructor(registry: Registry) {
    this.registry = registry;
  }

  add(place: Place | undefined, rule: string, message: string): void {
    if (this.list.length < VIOLATIONS_MAX) this.list.push({ field: pathText(place), rule, message });
  }
}

/** `legs[0].amount`; the body itself is "". A key that is no plain name stands as `notes["a.b"]`. */
export function pathText(place: Place | undefined): string {
  if (place === undefined) return "";
  const up = pathText(place.up);
  if (typeof place.key === "number") return `${up}[${place.key}]`;
  if (!/^[A-Za-z_$][\w$]*$/.test(place.key)) return `${up}[${JSON.stringify(place.key)}]`;
  return up === "" ? place.key : `${up}.${place.key}`;
}

/** Checks a value and gives it as protobuf-es is to read it: without texts of numbers. Faults are added, not thrown. */
export type Check = (value: JsonTree, place: Place | undefined, faults: Faults) => JsonTree;

export const isObject = (value: JsonTree): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof NumberText);

export function wrongType(value: JsonTree, place: Place | undefined, faults: Faults, expected: string): null {
  const is =
    value === null
      ? "null"
      : Array.isArray(value)
        ? "an array"
        : isObject(value)
          ? "an object"
          : value instanceof NumberText
            ? "a number"
            : `a ${typeof value}`;
  faults.add(place, "wrong_type", `Must be ${expected}, and is ${is}.`);
  return null;
}
