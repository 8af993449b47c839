import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import type { FastifyInstance } from "fastify";

/** Swagger UI writes styles into its elements; everything else comes from here alone, and no script stands in the page. */
const CSP =
  "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

const FILES: Readonly<Record<string, string>> = {
  "swagger-ui.css": "text/css; charset=utf-8",
  "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
  "favicon-32x32.png": "image/png",
};

const START = `window.addEventListener("load", () => {
  window.SwaggerUIBundle({ url: "/swagger/doc.json", dom_id: "#swagger-ui", deepLinking: true, persistAuthorization: true, validatorUrl: null });
});
`;

const page = (title: string) => `<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>${title.replaceAll("&", "&amp;").replaceAll("<", "&lt;")}</title>
    <link rel="stylesheet" href="/docs/swagger-ui.css">
    <link rel="icon" type="image/png" href="/docs/favicon-32x32.png">
  </head>
  <body>
    <div id="swagger-ui"></div>
    <script src="/docs/swagger-ui-bundle.js"></script>
    <script src="/docs/start.js"></script>
  </body>
</html>
`;

/** Serves Swagger UI under /docs from the files of swagger-ui-dist, which are read once, when first asked for. */
export function serveDocs(server: FastifyInstance, title: string): void {
  const folder = join(createRequire(import.meta.url).resolve("swagger-ui-dist/package.json"), "..");
  const read = new Map<string, Buffer>();
  const html = page(title);
  for (const path of ["/docs", "/docs/"])
    server.get(path, (_request, reply) => reply.header("content-security-policy", CSP).type("text/html; charset=utf-8").send(html));
  server.get("/docs/start.js", (_request, reply) => reply.type("text/javascript; charset=utf-8").send(START));
  for (const [name, type] of Object.entries(FILES)) {
    server.get(`/docs/${name}`, (_request, reply) => {
      const bytes = read.get(name) ?? readFileSync(join(folder, name));
      read.set(name, bytes);
      return reply.header("cache-control", "public, max-age=3600").type(type).send(bytes);
    });
  }
}
