// Bundle the studio and GraphiQL, with their workers. All code comes from npm packages, none from a CDN.

import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

import { licences } from "./licences.js";

const { collect, write } = licences();
const at = (path) => fileURLToPath(new URL(path, import.meta.url));

export default defineConfig({
  // A relative base, so that the pages also work behind a proxy that adds a path prefix.
  base: "./",
  plugins: [collect, write],
  resolve: {
    alias: [
      { find: /^~api$/, replacement: at("generated/api/graphql.ts") },
      { find: /^~\//, replacement: at("src/") },
      // The forms have a validator of their own. @rjsf/core names this one in a module for its tests.
      { find: /^@rjsf\/validator-ajv8$/, replacement: at("src/forms/validator.ts") },
      { find: /^@treadle\/client$/, replacement: at("generated/client/index.ts") },
    ],
  },
  worker: { format: "es", plugins: () => [collect] },
  build: {
    target: "es2022",
    chunkSizeWarningLimit: 4000,
    reportCompressedSize: false,
    // For the size limit of the first page: it names the chunks that each chunk imports.
    manifest: "manifest.json",
    rollupOptions: { input: { studio: at("index.html"), graphiql: at("graphiql.html") } },
  },
  test: { include: ["src/**/*.test.ts"], environment: "node" },
});
