import { headerIdentity } from "#platform/rest/identity.ts";
import { defineEdge } from "#platform/service.ts";

export const gatewayService = defineEdge("gateway", { identity: headerIdentity });
