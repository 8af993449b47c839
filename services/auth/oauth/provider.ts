/** What a client says of its way back from a provider. */
export type Returned = {
  readonly state: string;
  readonly code: string;
  /** Empty where it came without. */
  readonly iss: string;
  /** Of VK ID; empty elsewhere. */
  readonly deviceId: string;
};

/** What goes with a flow from its beginning to its end. */
export type FlowProof = { readonly verifier: string; readonly nonce: string };

/** A user as a provider vouches for them. */
export type OutsideUser = {
  readonly issuer: string;
  /** Who it is, for good, within the issuer. */
  readonly subject: string;
  /** In lower case; undefined where the provider tells none. */
  readonly email: string | undefined;
  /** It is the user's, says the provider. */
  readonly isEmailVerified: boolean;
  readonly locale: string | undefined;
};

/** What the code was good for. `untrusted`: what came back isn't what was asked for, and `why` is for the log. */
export type Identified =
  | { readonly kind: "user"; readonly user: OutsideUser }
  | { readonly kind: "refused" }
  | { readonly kind: "untrusted"; readonly why: unknown };

/**
 * An outside provider of identities, as a client of ours. Both throw ProviderAway where it isn't reached in time, or answers with what
 * has no meaning.
 */
export type Provider = {
  readonly name: string;
  /** Where a browser goes to sign in there. */
  authorizationUrl(state: string, proof: FlowProof): Promise<string>;
  /** Exchanges the code, and says who it is. */
  identify(returned: Returned, proof: FlowProof): Promise<Identified>;
};

/** A provider can't be asked now, or doesn't take us for its client. */
export class ProviderAway extends Error {
  override readonly name = "ProviderAway";
}

const SUBJECT_LENGTH_MAX = 255;

/** What a provider says of a user, as we take it; undefined where that is nobody. */
export function outsideUser(
  issuer: string,
  said: { readonly subject: unknown; readonly email?: unknown; readonly isEmailVerified?: boolean; readonly locale?: unknown },
): OutsideUser | undefined {
  const { subject, locale } = said;
  // OpenID Connect Core, 2: at most 255 characters of ASCII.
  if (typeof subject !== "string" || subject.length > SUBJECT_LENGTH_MAX || !/^[\x20-\x7e]+$/.test(subject)) return undefined;
  const email = typeof said.email === "string" && isEmail(said.email) ? said.email.toLowerCase() : undefined;
  return {
    issuer,
    subject,
    email,
    isEmailVerified: email !== undefined && said.isEmailVerified === true,
    locale: typeof locale === "string" && /^[a-z]{2}(-[A-Z]{2})?$/.test(locale) ? locale : undefined,
  };
}

const isEmail = (text: string): boolean => text.length <= 254 && /^[\x21-\x7e]+$/.test(text) && /^[^\s<>@"]+@[^\s<>@"]+$/.test(text);
