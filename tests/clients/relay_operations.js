// Operations for relay-compiler. They are not executed: relay.mjs imports the compiled artifacts.
import { graphql } from 'relay-runtime'

graphql`query operationsViewerQuery { viewer { subject } }`
graphql`mutation operationsCreateMutation($name: String!) {
  createWorkflow(input: { name: $name }) { workflow { id name } errors { code detail } }
}`
graphql`mutation operationsRenameMutation($id: ID!, $name: String!) {
  updateWorkflow(input: { id: $id, name: $name }) { workflow { id name } errors { code detail } }
}`
graphql`query operationsNodeQuery($id: ID!) { node(id: $id) { ... on Workflow { name } } }`
graphql`query operationsListQuery($count: Int!) {
  workflows(first: $count) { edges { cursor node { id name } } pageInfo { hasNextPage endCursor } }
}`
graphql`mutation operationsRunMutation($id: ID!) {
  runWorkflow(input: { workflowId: $id }) { run { id status } errors { code detail } }
}`
graphql`mutation operationsCancelMutation($id: ID!) {
  cancelRun(input: { runId: $id }) { run { id status } errors { code detail } }
}`
graphql`subscription operationsEventsSubscription($id: ID!) { runEvents(runId: $id) { __typename seq } }`
