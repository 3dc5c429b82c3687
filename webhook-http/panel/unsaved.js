// Changes that were made to a form and not saved. They are not thrown away without asking.

import { ask } from "./messages.js";

const forms = new Set();

// Notes a form, by the function that says whether it was changed. Answers the function that strikes it off.
export function note(isChanged) {
  forms.add(isChanged);
  return () => forms.delete(isChanged);
}

export const isUnsaved = () => [...forms].some((isChanged) => isChanged());

// Whether the page may be left: at once, or when people say so.
export const mayLeave = async () => !isUnsaved() || ask("Leave without saving?",
  "Settings were changed on this page and are not saved yet.", "Leave without saving", { danger: true });

export const forgetAll = () => forms.clear();

addEventListener("beforeunload", (event) => { if (isUnsaved()) event.preventDefault(); });
