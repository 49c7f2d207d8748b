/** A template to begin with. */
import { TemplateCardFragmentDoc } from "~api";
import { readFragment, type FragmentType } from "~/shell/fragments";

interface TemplateCardProps {
  readonly template: FragmentType<typeof TemplateCardFragmentDoc>;
  readonly onChoose: () => void;
}

export function TemplateCard({ template, onChoose }: TemplateCardProps) {
  const { title, description, needs } = readFragment(TemplateCardFragmentDoc, template);
  return (
    <button type="button" className="card" onClick={onChoose}>
      <strong>{title}</strong>
      <p>{description}</p>
      {needs.map((need) => (
        <p key={need} className="faint">
          {need}
        </p>
      ))}
    </button>
  );
}
