import { AuthService } from "#contracts/polis/auth/v1/auth_pb.ts";
import { streamedQuery } from "#platform/reads/query.ts";
import { AUDIENCE } from "./signing-key.ts";
import { signingKeys } from "./signing-keys.ts";
import { tokenNews, toNews } from "./token-news.ts";

/** Tells a gateway by what tokens are verified, and which are good no more. That it hears of nothing for a while tells it that it is deaf. */
export const watchTokens = streamedQuery(AuthService.method.watchTokens, async function* (_, { use, signal }) {
  const { issuer, jwks } = use(signingKeys);
  let told: string | undefined;
  for await (const look of use(tokenNews).watch(signal)) {
    for (const news of toNews(look)) {
      const known = jwks();
      if (told === undefined) Object.assign(news, { issuer, audience: AUDIENCE });
      if (known !== told) news.jwks = known;
      told = known;
      yield news;
    }
  }
});
