import type { Use } from "#platform/resource.ts";
import { derivedSecrets } from "../codes/derived-secrets.ts";
import { signingKeys } from "../keys/signing-keys.ts";
import type { TokenMakers } from "./session.ts";

/** What tokens are made with, for a `write`, which can't ask for it. */
export const tokenMakers = (use: Use): TokenMakers => ({ keys: use(signingKeys), derived: use(derivedSecrets) });
