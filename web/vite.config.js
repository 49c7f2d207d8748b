// Bundle the page with its editor and workers. All code comes from npm packages, none from a CDN.

import { defineConfig } from "vite";

import { licences } from "./licences.js";

const { collect, write } = licences();

export default defineConfig({
  // A relative base, so that the page also works behind a proxy that adds a path prefix.
  base: "./",
  plugins: [collect, write],
  worker: { format: "es", plugins: () => [collect] },
  build: { target: "es2022", chunkSizeWarningLimit: 4000, reportCompressedSize: false },
});
