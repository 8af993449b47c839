import type { ApplyItem } from "#platform/events/apply.ts";
import type { Locks } from "#platform/writes/definitions.ts";
import { Ref } from "#platform/writes/table.ts";

/** The rows that an item's `lock` names, or why it failed. */
export type NamedRows =
  | { readonly locks: Locks; readonly refs: readonly Ref<object>[]; readonly failed?: undefined }
  | { readonly refs: readonly Ref<object>[]; readonly failed: { readonly error: unknown } };

export function namedRows(item: ApplyItem): NamedRows {
  try {
    const locks: Locks = item.parts.lock?.(item.input, item);
    const refs: Ref<object>[] = [];
    addRefs(locks, refs);
    return { locks, refs };
  } catch (error) {
    return { refs: [], failed: { error } };
  }
}

function addRefs(locks: Locks, refs: Ref<object>[]): void {
  if (locks instanceof Ref) refs.push(locks);
  else if (Array.isArray(locks)) for (const ref of locks) addRefs(ref, refs);
  else if (locks !== undefined) for (const inner of Object.values(locks)) addRefs(inner as Locks, refs);
}
