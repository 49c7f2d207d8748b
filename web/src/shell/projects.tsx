/** The choice of a project, for callers who see several. It is remembered for this browser tab. */
import { useId } from "react";
import { useQuery } from "urql";
import { create } from "zustand";
import { ShellProjectsDocument } from "~api";

export type Projects = ReadonlyArray<{ readonly id: string; readonly name: string }>;

interface Choice {
  readonly projectId: string | undefined;
  setProject(projectId: string | undefined): void;
}

const STORED = "treadle:project";
const NONE: Projects = [];

const useChoice = create<Choice>((set) => ({
  projectId: sessionStorage.getItem(STORED) ?? undefined,
  setProject: (projectId) => {
    if (projectId === undefined) sessionStorage.removeItem(STORED);
    else sessionStorage.setItem(STORED, projectId);
    set({ projectId });
  },
}));

/** Return the projects of the caller, and the chosen one; undefined means all. */
export function useProjects() {
  const [{ data }] = useQuery({ query: ShellProjectsDocument, requestPolicy: "cache-first" });
  const { projectId, setProject } = useChoice();
  const projects = data?.viewer?.projects ?? NONE;
  return { projects, projectId: projects.some(({ id }) => id === projectId) ? projectId : undefined, setProject };
}

interface ProjectChoiceProps {
  readonly projects: Projects;
  readonly value: string | undefined;
  readonly onChange: (projectId: string | undefined) => void;
}

export function ProjectChoice({ projects, value, onChange }: ProjectChoiceProps) {
  const id = useId();
  if (projects.length < 2) return null;
  return (
    <div className="row">
      <label htmlFor={id}>Project</label>
      <select id={id} value={value ?? ""} onChange={(event) => onChange(event.target.value || undefined)}>
        <option value="">all</option>
        {projects.map((project) => (
          <option key={project.id} value={project.id}>
            {project.name}
          </option>
        ))}
      </select>
    </div>
  );
}
