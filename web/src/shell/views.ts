/** The views that have a place in the navigation, by their titles. */
export const VIEWS = { Workflows: "/workflows", Runs: "/runs", Questions: "/questions", Triggers: "/triggers", Secrets: "/secrets", Statistics: "/statistics" } as const;
