import { type Timestamp, timestampDate } from "@bufbuild/protobuf/wkt";
import type { Origin } from "#platform/rpc/origin.ts";

/** What a letter tells of a change: when it was, and from where. */
export const changeParams = (origin: Origin | undefined, now: Timestamp): { readonly time: string; readonly device: string } => ({
  time: `${timestampDate(now).toISOString().slice(0, 16).replace("T", " ")} UTC`,
  device: [origin?.userAgent, origin?.address].filter((part) => part !== undefined && part !== "").join(", ") || "-",
});
