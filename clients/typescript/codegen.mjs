// How types and operations are generated from the schema. The studio in web/ generates the client in the same way.

/** The TypeScript types of scalars. */
export const scalars = {
  ID: 'string',
  DateTime: 'string',
  JSON: { input: 'unknown', output: 'any' },
}

/** The options of the plugins for the operations of this client. */
export const clientOptions = {
  scalars,
  strictScalars: true,
  useTypeImports: true,
  enumsAsTypes: true,
  skipTypename: true,
  avoidOptionals: { field: true, inputValue: false, object: false },
  maybeValue: 'T | null',
  inputMaybeValue: 'T | null | undefined',
  onlyOperationTypes: true,
  documentMode: 'string',
}
