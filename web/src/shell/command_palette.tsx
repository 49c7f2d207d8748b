/** The command palette: views, workflows and a run by its id, by their names; and the sheet of all shortcuts. */
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { useQuery } from "urql";
import { PaletteWorkflowsDocument } from "~api";
import { commandsOf, found, type Command } from "./commands";
import { Dialog } from "./dialog";
import { usePreferences } from "./preferences";
import { SearchDialog } from "./search_dialog";
import { SHORTCUTS } from "./shortcuts";
import "./command_palette.css";

interface CommandPaletteProps {
  readonly isSheet: boolean;
  readonly onSheet: () => void;
  readonly onClose: () => void;
}

export default function CommandPalette({ isSheet, onSheet, onClose }: CommandPaletteProps) {
  return isSheet ? <ShortcutSheet onClose={onClose} /> : <Commands onSheet={onSheet} onClose={onClose} />;
}

function Commands({ onSheet, onClose }: Pick<CommandPaletteProps, "onSheet" | "onClose">) {
  const navigate = useNavigate();
  const { setTheme, setTimes } = usePreferences();
  const [search, setSearch] = useState("");
  const words = search.trim();
  const [{ data, fetching }] = useQuery({ query: PaletteWorkflowsDocument, variables: words ? { search: words } : {} });
  const commands = commandsOf({ go: (to) => void navigate({ to }), setTheme, setTimes, onSheet });
  // While a search is under way, `data` is that of the search before, and Enter must not choose from it.
  const workflows: Command[] = (fetching ? [] : (data?.workflows?.nodes ?? [])).map(({ id, name }) => ({
    id,
    title: name,
    kind: "Workflow",
    run: () => void navigate({ to: "/workflows/$workflowId", params: { workflowId: id } }),
  }));
  const runId = /^run_\w+$/.exec(words)?.[0];
  const runs: Command[] = runId === undefined ? [] : [{ id: runId, title: runId, kind: "Run", run: () => void navigate({ to: "/runs/$runId", params: { runId } }) }];
  return (
    <SearchDialog
      title="Go to"
      searchLabel="Search commands and workflows"
      listLabel="Commands and workflows"
      placeholder="A view, a workflow, or the id of a run"
      search={search}
      onSearch={setSearch}
      items={[...runs, ...found(commands, search), ...workflows]}
      keyOf={({ id }) => id}
      row={({ title, kind }) => <CommandRow title={title} kind={kind} />}
      empty={fetching ? "Searching…" : "Nothing has these words."}
      onPick={(command) => {
        onClose();
        command.run();
      }}
      onClose={onClose}
    />
  );
}

function CommandRow({ title, kind }: Pick<Command, "title" | "kind">) {
  return (
    <>
      <span className="grow truncate" dir="auto">
        {title}
      </span>
      <span className="faint">{kind}</span>
    </>
  );
}

function ShortcutSheet({ onClose }: { onClose: () => void }) {
  return (
    <Dialog title="Shortcuts" onClose={onClose}>
      {SHORTCUTS.map(({ place, keys }) => (
        <section key={place} className="shortcuts">
          <h3>{place}</h3>
          <dl>
            {keys.map(([key, effect]) => (
              <div key={key}>
                <dt>
                  <kbd>{key}</kbd>
                </dt>
                <dd>{effect}</dd>
              </div>
            ))}
          </dl>
        </section>
      ))}
      <p className="faint">Mod is Ctrl, and ⌘ on a Mac.</p>
    </Dialog>
  );
}
