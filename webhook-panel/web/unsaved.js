// Unsaved changes of forms. They are not discarded without a question.

import { ask } from "./messages.js";

const forms = new Set();

// Registers a form, by the function that says whether it was changed. Returns the function that removes it.
export function note(isChanged) {
  forms.add(isChanged);
  return () => forms.delete(isChanged);
}

export const isUnsaved = () => [...forms].some((isChanged) => isChanged());

// Returns whether the page may be left: at once, or after the user confirms.
export const mayLeave = async () => !isUnsaved() || ask("Leave without saving?",
  "Settings were changed on this page and are not saved yet.", "Leave without saving", { danger: true });

export const forgetAll = () => forms.clear();

addEventListener("beforeunload", (event) => { if (isUnsaved()) event.preventDefault(); });
