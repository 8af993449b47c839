import { headerIdentity } from "#platform/rest/identity.ts";
import { defineEdge } from "#platform/service.ts";

export const gatewayService = defineEdge("gateway", {
  settings: {},
  open({ host, log }) {
    // Who is believed without a proof must be out of strangers' reach.
    if (!/^(localhost|127\.|::1$)/.test(host))
      log.warn({ host }, "whoever reaches this address is whom X-User-Id names: nobody but a proxy that authenticates may reach it");
    return { identity: headerIdentity, parts: [], close: () => undefined };
  },
});
