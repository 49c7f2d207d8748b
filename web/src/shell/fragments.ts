/** A component declares its data as a fragment, and reads it from what its parent passes on. */
export { readFragment, type FragmentType } from "../../generated/api/fragment-masking";
