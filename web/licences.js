// Vite plugins that write LICENSES.txt: the licence of every package that the page or a worker includes a file of.

import { existsSync, readFileSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";

const LEGAL_FILE = /^(licen[cs]e|copying|notice|third-?party-?notices)/i;
// GraphiQL's stylesheet contains these fonts, but the package has no licence file for them.
const FONTS = `Fonts in the stylesheet of graphiql

Roboto, Copyright 2011 Google Inc., Apache License 2.0
Fira Code, Copyright The Fira Code Project Authors, SIL Open Font License 1.1`;
const RULE = `\n\n${"-".repeat(100)}\n\n`;

/** Return the plugins. The page needs both; workers need `collect` too, because each worker is a separate build. */
export function licences() {
  const folders = new Set();
  const collect = {
    name: "treadle-collect-licences",
    moduleParsed({ id }) {
      const folder = packageFolder(id);
      if (folder) folders.add(folder);
    },
  };
  const write = {
    name: "treadle-write-licences",
    generateBundle() {
      const source = [...[...folders].sort().map(describe), FONTS].join(RULE) + "\n";
      this.emitFile({ type: "asset", fileName: "LICENSES.txt", source });
    },
  };
  return { collect, write };
}

/** Return the folder of the package that a module belongs to; undefined for own and virtual modules. */
function packageFolder(id) {
  if (id.startsWith("\0") || !id.includes("/node_modules/")) return undefined;
  let folder = dirname(id.split("?")[0]);
  // A package.json without a name only marks a folder as ESM or CommonJS.
  while (!manifest(folder)?.name) folder = dirname(folder);
  return folder;
}

function manifest(folder) {
  const file = join(folder, "package.json");
  return existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : undefined;
}

function describe(folder) {
  const { name, version, license, author } = manifest(folder);
  const by = typeof author === "string" ? author : author?.name;
  const texts = readdirSync(folder).filter((file) => LEGAL_FILE.test(file)).sort();
  const head = `${name} ${version}\nLicence: ${license}${by ? `\nAuthor: ${by}` : ""}`;
  return [head, ...texts.map((file) => readFileSync(join(folder, file), "utf8").trim())].join("\n\n");
}
