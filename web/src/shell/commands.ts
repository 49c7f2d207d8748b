/** The commands of the palette. */
import type { Theme, TimeStyle } from "./preferences";
import { VIEWS } from "./views";
import { hasWords } from "./words";

export interface Command {
  readonly id: string;
  readonly title: string;
  /** What it is, as a word beside it. */
  readonly kind: string;
  readonly run: () => void;
}

const THEMES: Readonly<Record<Theme, string>> = { light: "Light", dark: "Dark", system: "Light or dark as the system" };
const TIMES: Readonly<Record<TimeStyle, string>> = { relative: "Times as ago", local: "Times in local time", utc: "Times in UTC" };

interface Acts {
  readonly go: (to: (typeof VIEWS)[keyof typeof VIEWS]) => void;
  readonly setTheme: (theme: Theme) => void;
  readonly setTimes: (times: TimeStyle) => void;
  readonly onSheet: () => void;
}

export function commandsOf({ go, setTheme, setTimes, onSheet }: Acts): Command[] {
  const views = Object.entries(VIEWS).map(([title, to]) => ({ id: to, title, kind: "View", run: () => go(to) }));
  const themes = Object.entries(THEMES).map(([theme, title]) => ({ id: theme, title, kind: "Theme", run: () => setTheme(theme as Theme) }));
  const times = Object.entries(TIMES).map(([style, title]) => ({ id: style, title, kind: "Times", run: () => setTimes(style as TimeStyle) }));
  return [...views, { id: "shortcuts", title: "Shortcuts", kind: "Help", run: onSheet }, ...themes, ...times];
}

/** Return the commands that have all the words of a search. */
export function found(commands: readonly Command[], search: string): Command[] {
  return commands.filter(({ title, kind }) => hasWords(`${title} ${kind}`, search));
}
