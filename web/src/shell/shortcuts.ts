/** All shortcuts, by the place where they work. */
export const SHORTCUTS: ReadonlyArray<{ place: string; keys: ReadonlyArray<readonly [string, string]> }> = [
  { place: "Everywhere", keys: [["Mod+K", "Go to a view, a workflow or a run"], ["?", "Show the shortcuts"], ["Esc", "Close a dialog"]] },
  {
    place: "Builder",
    keys: [
      ["/", "Add a node"],
      ["Arrows", "Move the selected nodes"],
      ["Del", "Delete what is selected"],
      ["Mod+Z", "Undo"],
      ["Mod+Shift+Z", "Redo"],
      ["Mod+C, X, V", "Copy, cut, paste"],
      ["Mod+D", "Duplicate"],
      ["Mod+A", "Select all nodes"],
      ["Mod+F", "Search and replace"],
      ["Mod+S", "Save now"],
    ],
  },
  { place: "Run", keys: [["← →", "One step back or on, in the slider"], ["Enter", "Open the node that has the focus"]] },
];
