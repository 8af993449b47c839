/** The columns of the drills' table that tell how much was done. */
export const COUNTED = ["requests", "repeats", "orders", "top-ups", "tasks", "reads", "writes"] as const;

export type Counts = { readonly [column in (typeof COUNTED)[number]]?: number };
