/** The studio: build, run, watch and explain workflows. */
import "~/shell/tokens.css";
import "~/shell/shell.css";
import { RouterProvider } from "@tanstack/react-router";
import { createRoot } from "react-dom/client";
import { router } from "~/routes";
import { applyTheme } from "~/shell/preferences";

applyTheme();
createRoot(document.getElementById("studio")!).render(<RouterProvider router={router} />);
