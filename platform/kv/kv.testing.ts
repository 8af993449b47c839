import { CardsService } from "#contracts/polis/cardtest/v1/cardtest_pb.ts";
import { type Kv, kvOf } from "#platform/kv/kv.ts";

/** For services that keep nothing in the key-value store. */
export const noKv: Kv = kvOf(CardsService, [], undefined);
