/** What somebody is to get. */
export type Message = {
  /** The same for every try. */
  readonly id: string;
  readonly to: string;
  readonly subject: string;
  readonly text: string;
  readonly html: string;
};

/** What became of it. `refused`: it never will be taken, and why. */
export type Carried = { readonly kind: "taken" } | { readonly kind: "refused"; readonly reason: string };

/** Carries letters, or texts. Throws where it may be taken later: the server isn't reached, or has no time. */
export type Carrier = {
  carry(message: Message, signal: AbortSignal): Promise<Carried>;
  close(): void;
};
