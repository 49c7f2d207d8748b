/** What a person has chosen for this browser: light or dark, and how times are written. */
import { create } from "zustand";
import { persist } from "zustand/middleware";

export type Theme = "system" | "light" | "dark";
export type TimeStyle = "relative" | "local" | "utc";

interface Preferences {
  readonly theme: Theme;
  readonly times: TimeStyle;
  setTheme(theme: Theme): void;
  setTimes(times: TimeStyle): void;
}

export const usePreferences = create<Preferences>()(
  persist(
    (set) => ({
      theme: "system",
      times: "relative",
      setTheme: (theme) => set({ theme }),
      setTimes: (times) => set({ times }),
    }),
    { name: "treadle:preferences" },
  ),
);

function showTheme({ theme }: Preferences): void {
  if (theme === "system") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = theme;
}

/** Apply the theme now, and whenever it changes. */
export function applyTheme(): void {
  showTheme(usePreferences.getState());
  usePreferences.subscribe(showTheme);
}
