/** Asks before something is done that cannot be undone. */
import type { ReactNode } from "react";
import { Dialog } from "./dialog";

interface ConfirmProps {
  readonly title: string;
  readonly children: ReactNode;
  readonly action: string;
  readonly refuse?: string;
  readonly problem: string | undefined;
  readonly isBusy: boolean;
  readonly onConfirm: () => void;
  readonly onClose: () => void;
}

export function Confirm({ title, children, action, refuse = "Keep it", problem, isBusy, onConfirm, onClose }: ConfirmProps) {
  return (
    <Dialog title={title} onClose={onClose}>
      {children}
      {problem && <p className="field-error wrap" role="alert">{problem}</p>}
      <div className="dialog-actions">
        <button type="button" onClick={onClose}>
          {refuse}
        </button>
        <button type="button" className="danger" disabled={isBusy} onClick={onConfirm}>
          {action}
        </button>
      </div>
    </Dialog>
  );
}
