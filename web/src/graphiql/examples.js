// The tabs of a first visit. Operations are plain files, so that a test can validate them against the schema.

import followRun from "./operations/follow_run.graphql?raw";
import listRuns from "./operations/list_runs.graphql?raw";
import listRunsVariables from "./operations/list_runs.json?raw";
import readRun from "./operations/read_run.graphql?raw";
import runAdhoc from "./operations/run_adhoc.graphql?raw";
import runAdhocVariables from "./operations/run_adhoc.json?raw";
import validateSpec from "./operations/validate_spec.graphql?raw";
import validateSpecVariables from "./operations/validate_spec.json?raw";

const lastRun = '{\n  "runId": "last"\n}\n';

export const exampleTabs = [
  { query: runAdhoc, variables: runAdhocVariables },
  { query: followRun, variables: lastRun },
  { query: readRun, variables: lastRun },
  { query: listRuns, variables: listRunsVariables },
  { query: validateSpec, variables: validateSpecVariables },
];

/** The content of a new tab. */
export const welcome = `# Treadle: write an operation here, or select fields in the explorer (the folder icon on the left).
# Ctrl-Enter runs it, Ctrl-Space completes. "runId": "last" means the run last started in this browser tab.
`;
