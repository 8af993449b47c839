import { url } from "#platform/config/setting-types.ts";
import { setting } from "#platform/config/settings.ts";

/** Where clients find us; the same in every process. */
export const publicUrl = setting({
  name: "POLIS_PUBLIC_URL",
  type: url("http", "https"),
  default: "http://127.0.0.1:8080",
  text: "the URL by which clients reach the gateway: who issues tokens, as they say themselves",
});
