/** Icons of node types by the name that the server gives. An unknown name shows the shape of a package. */
import { memo } from "react";

const PATHS: Record<string, string> = {
  play: "M5 3.5v9l7-4.5z",
  flag: "M4 14V2.5h8l-2 3 2 3H4",
  "octagon-x": "M5.5 2h5L14 5.5v5L10.5 14h-5L2 10.5v-5zM6 6l4 4M10 6l-4 4",
  shuffle: "M2 5h3l6 6h3M2 11h3l1.5-1.5M9.5 6.5L11 5h3M12 3l2 2-2 2M12 9l2 2-2 2",
  "git-branch": "M4 2.5v11M4 8c5 0 8-1 8-4M12 4a1.5 1.5 0 1 0 0-.1M4 13.5a1.2 1.2 0 1 0 0-.1",
  route: "M3 13h6a2.5 2.5 0 0 0 0-5H7a2.5 2.5 0 0 1 0-5h6M11 1.5L13 3l-2 1.5",
  code: "M5.5 4L2 8l3.5 4M10.5 4L14 8l-3.5 4",
  clock: "M8 2a6 6 0 1 0 0 12A6 6 0 1 0 8 2M8 5v3.2L10 10",
  user: "M8 8a2.7 2.7 0 1 0 0-5.4A2.7 2.7 0 0 0 8 8M3 13.5c.5-3 2.3-4 5-4s4.500 1 5 4",
  bell: "M4 11V7a4 4 0 0 1 8 0v4l1 1.500H3zM7 14h2",
  globe: "M8 2a6 6 0 1 0 0 12A6 6 0 1 0 8 2M2 8h12M8 2c-2 2-2.500 4-2.500 6s.5 4 2.500 6c2-2 2.500-4 2.500-6s-.5-4-2.500-6",
  sparkles: "M7 2l1.300 3.700L12 7 8.300 8.300 7 12 5.700 8.300 2 7l3.700-1.300zM12.500 10v4M10.500 12h4",
  wrench: "M13.500 4.500a3.500 3.500 0 0 1-4.700 4.200L4.500 13a1.400 1.400 0 0 1-2-2l4.300-4.300A3.500 3.500 0 0 1 11 2L9 4l.5 2.500L12 7z",
  bot: "M3 6.500h10v7H3zM8 6.500V3.500M6 9.500v1M10 9.500v1M8 3.500a.7.7 0 1 0 0-.1",
  workflow: "M2.500 2.500h4v4h-4zM9.500 9.500h4v4h-4zM6.500 4.500h3a2 2 0 0 1 2 2v3",
  repeat: "M3 7V6a2 2 0 0 1 2-2h8M11 2l2 2-2 2M13 9v1a2 2 0 0 1-2 2H3M5 14l-2-2 2-2",
};
const PACKAGE = "M8 2l5.500 3v6L8 14l-5.500-3V5zM2.500 5L8 8l5.500-3M8 8v6";

export const TypeIcon = memo(function TypeIcon({ name }: { name: string | undefined }) {
  return (
    <svg className="type-icon" viewBox="0 0 16 16" aria-hidden="true">
      <path d={PATHS[name ?? ""] ?? PACKAGE} />
    </svg>
  );
});
