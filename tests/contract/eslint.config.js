// The rules of the schema. docs/decisions/0053 has the reason of each one that is off or has options.
import graphql from '@graphql-eslint/eslint-plugin'

const schema = '../../schema/schema.graphql'

export default [
  {
    files: ['**/*.graphql'],
    languageOptions: { parser: graphql.parser, parserOptions: { graphQLConfig: { schema } } },
    plugins: { '@graphql-eslint': graphql },
    rules: {
      ...graphql.configs['flat/schema-all'].rules,
      ...graphql.configs['flat/schema-relay'].rules,
      '@graphql-eslint/alphabetize': 'off',
      '@graphql-eslint/no-root-type': 'off',
      '@graphql-eslint/require-deprecation-date': 'off',
      '@graphql-eslint/require-field-of-type-query-in-mutation-result': 'off',
      '@graphql-eslint/strict-id-in-types': 'off',
      '@graphql-eslint/relay-edge-types': [
        'error',
        { listTypeCanWrapOnlyEdgeType: false, shouldImplementNode: false },
      ],
      '@graphql-eslint/naming-convention': withExceptions(graphql.configs['flat/schema-all'].rules),
    },
  },
]

/** The rule for names, without the type `NodeType`: it is a type of nodes. */
function withExceptions(rules) {
  const [level, options] = rules['@graphql-eslint/naming-convention']
  const ofObjects = 'ObjectTypeDefinition,ObjectTypeExtension'
  return [level, { ...options, [ofObjects]: { ...options[ofObjects], ignorePattern: '^NodeType$' } }]
}
