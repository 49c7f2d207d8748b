/** The command palette: views, workflows and a run by its id, by their names; and the sheet of all shortcuts. */
import { useNavigate } from "@tanstack/react-router";
import { useId, useState, type KeyboardEvent } from "react";
import { useQuery } from "urql";
import { PaletteWorkflowsDocument } from "~api";
import { commandsOf, found, type Command } from "./commands";
import { Dialog } from "./dialog";
import { usePreferences } from "./preferences";
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
  const [index, setIndex] = useState(0);
  const list = useId();
  const [{ data }] = useQuery({ query: PaletteWorkflowsDocument, variables: search.trim() ? { search: search.trim() } : {} });
  const commands = commandsOf({ go: (to) => void navigate({ to }), setTheme, setTimes, onSheet });
  const workflows: Command[] = (data?.workflows?.nodes ?? []).map(({ id, name }) => ({
    id,
    title: name,
    kind: "Workflow",
    run: () => void navigate({ to: "/workflows/$workflowId", params: { workflowId: id } }),
  }));
  const runId = /^run_\w+$/.exec(search.trim())?.[0];
  const runs: Command[] = runId === undefined ? [] : [{ id: runId, title: runId, kind: "Run", run: () => void navigate({ to: "/runs/$runId", params: { runId } }) }];
  const shown = [...runs, ...found(commands, search), ...workflows];
  const active = Math.min(index, shown.length - 1);
  const choose = (command: Command) => {
    onClose();
    command.run();
  };
  const onKey = (event: KeyboardEvent) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step !== undefined) {
      event.preventDefault();
      setIndex((active + step + shown.length) % Math.max(1, shown.length));
    }
    const chosen = shown[active];
    if (event.key === "Enter" && chosen) {
      event.preventDefault();
      choose(chosen);
    }
  };
  return (
    <Dialog title="Go to" onClose={onClose}>
      <input
        className="command-search"
        type="search"
        role="combobox"
        aria-label="Search commands and workflows"
        aria-expanded="true"
        aria-controls={list}
        aria-activedescendant={shown[active] ? `${list}-${active}` : undefined}
        data-autofocus
        placeholder="A view, a workflow, or the id of a run"
        value={search}
        onKeyDown={onKey}
        onChange={(event) => {
          setSearch(event.target.value);
          setIndex(0);
        }}
      />
      {shown.length === 0 && <p className="faint">Nothing has these words.</p>}
      <ul className="commands" id={list} role="listbox" aria-label="Commands and workflows">
        {shown.map((command, place) => (
          <li
            key={command.id}
            id={`${list}-${place}`}
            role="option"
            aria-selected={place === active}
            onClick={() => choose(command)}
            ref={(item) => {
              if (place === active) item?.scrollIntoView({ block: "nearest" });
            }}
          >
            <span className="grow truncate" dir="auto">
              {command.title}
            </span>
            <span className="faint">{command.kind}</span>
          </li>
        ))}
      </ul>
    </Dialog>
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
