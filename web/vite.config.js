// Bundles the page with its editor and workers. Everything comes from npm packages, nothing from a CDN.

import { defineConfig } from "vite";

import { licences } from "./licences.js";

const { collect, write } = licences();

export default defineConfig({
  // Relative, so that the page also works behind a proxy that adds a path in front.
  base: "./",
  plugins: [collect, write],
  worker: { format: "es", plugins: () => [collect] },
  build: { target: "es2022", chunkSizeWarningLimit: 4000, reportCompressedSize: false },
});
