// Generates `generated/` from schema/schema.graphql; nothing of it is committed.
// - `api/`: the types and documents of the *.graphql files, one beside each component that reads data.
// - `client/`: a copy of the sources of the TypeScript client, with its operations.
import { cp, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { preset } from "@graphql-codegen/client-preset";
import { codegen } from "@graphql-codegen/core";
import * as typedDocumentNode from "@graphql-codegen/typed-document-node";
import * as typescriptOperations from "@graphql-codegen/typescript-operations";
import { parse } from "graphql";
import { clientOptions, scalars } from "../clients/typescript/codegen.mjs";

const here = (path) => new URL(path, import.meta.url);
const read = (path) => readFile(here(path), "utf8");

/** Return the documents of `src`, except the examples of GraphiQL. */
async function documents() {
  const paths = (await readdir(here("src"), { recursive: true })).map((path) => path.replaceAll("\\", "/"));
  const own = paths.filter((path) => path.endsWith(".graphql") && !path.startsWith("graphiql/")).sort();
  return Promise.all(
    own.map(async (path) => {
      const rawSDL = await read(`src/${path}`);
      return { location: path, rawSDL, document: parse(rawSDL) };
    }),
  );
}

async function generateApi(schema) {
  const outputs = await preset.buildGeneratesSection({
    baseOutputDir: "generated/api/",
    schema,
    documents: await documents(),
    config: { scalars, strictScalars: true, enumsAsTypes: true, useTypeImports: true, dedupeFragments: true },
    presetConfig: { fragmentMasking: { unmaskFunctionName: "readFragment" } },
    plugins: [],
    pluginMap: {},
    pluginContext: {},
    documentTransforms: [],
  });
  for (const output of outputs) await write(output.filename, await codegen(output));
}

async function copyClient(schema) {
  await cp(here("../clients/typescript/src/"), here("generated/client/"), { recursive: true });
  const document = parse(await read("../treadle/client/operations.graphql"));
  const code = await codegen({
    filename: "api.ts",
    schema,
    documents: [{ location: "operations.graphql", document }],
    config: clientOptions,
    plugins: [{ typescriptOperations: {} }, { typedDocumentNode: {} }],
    pluginMap: { typescriptOperations, typedDocumentNode },
  });
  await write("generated/client/generated/api.ts", code);
  // The studio edits specs of any shape, also wrong ones, and uses no types of specs.
  await write("generated/client/generated/spec.ts", "export {};\n");
}

async function write(path, text) {
  await mkdir(here(dirname(path) + "/"), { recursive: true });
  await writeFile(here(path), text);
}

await rm(here("generated"), { recursive: true, force: true });
const schema = parse(await read("../schema/schema.graphql"));
await generateApi(schema);
await copyClient(schema);
