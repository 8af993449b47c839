import { CardsService } from "#contracts/polis/cardtest/v1/cardtest_pb.ts";
import { kvOf } from "#platform/kv/kv.ts";
import type { Equipment } from "#platform/resource.ts";

/** For services that keep nothing in the key-value store, and open nothing. */
export const noEquipment: Equipment = {
  kv: kvOf(CardsService, [], undefined),
  use({ name }) {
    throw new Error(`${name} isn't open in this test`);
  },
};
