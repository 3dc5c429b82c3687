// Messages to the user: short ones at the edge of the page, and dialogs that need an answer.

import { button, element, fill, freshId, icon } from "./dom.js";

// A message of success is outdated when the next action starts.
document.addEventListener("submit", () => {
  document.querySelectorAll("#toasts > :not(.bad)").forEach((toast) => toast.remove());
}, true);

const SHOWN_FOR = 6_000;
const MOST_AT_ONCE = 4;

export function tell(text, bad = false) {
  const region = document.getElementById("toasts");
  let cameFrom = null;
  const end = () => {
    const focused = toast.contains(document.activeElement);
    toast.remove();
    if (!region.children.length && region.matches(":popover-open")) region.hidePopover();
    if (focused) (cameFrom?.isConnected ? cameFrom : document.getElementById("main"))?.focus();
  };
  const toast = element("div", { class: bad ? "toast bad" : "toast", role: bad ? "alert" : null,
    on: { focusin: (event) => { cameFrom = event.relatedTarget ?? cameFrom; } } },
  icon(bad ? "alert" : "check"), element("span", { class: "grow" }, text),
  button("", end, { kind: "quiet", symbol: "close", label: "Dismiss" }));
  region.append(toast);
  while (region.children.length > MOST_AT_ONCE) region.firstChild.remove();
  // When it is shown again, it is above a dialog that was opened in the meantime.
  if (region.matches(":popover-open")) region.hidePopover();
  region.showPopover();
  setTimeout(end, bad ? SHOWN_FOR * 2 : SHOWN_FOR);
}

export function tellProblem(problem) {
  if (problem.status === 401) return;
  // The detail only counts the errors.
  const reasons = problem.errors.map((one) => [one.field ?? one.parameter, one.message].filter(Boolean).join(": "));
  tell([`${problem.title}.`, ...reasons.length ? reasons : [problem.detail]].join(" "), true);
}

// Opens a dialog. `content` gets the function that closes it. The first field gets the focus unless another element
// requests it.
export function openDialog(title, content, { wide = false } = {}) {
  const heading = freshId("dialog");
  const dialog = element("dialog", { "aria-labelledby": heading, class: wide ? "wide" : null });
  const close = () => dialog.close();
  fill(dialog, element("div", { class: "dialog-head" }, element("h2", { id: heading }, title),
    button("", close, { kind: "quiet", symbol: "close", label: "Close" })), content(close));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  if (!dialog.querySelector("[autofocus]")) {
    dialog.querySelector("form :is(input, select, textarea, [type=submit])")?.focus();
  }
  return dialog;
}

// A dialog belongs to the page on which it was opened.
export function closeDialogs() {
  document.querySelectorAll("dialog[open]").forEach((dialog) => dialog.close());
}

// Asks for confirmation of an action that cannot be undone.
export function ask(title, text, yes, { danger = false } = {}) {
  return new Promise((answer) => {
    let agreed = false;
    const dialog = openDialog(title, (close) => {
      const agree = () => { agreed = true; close(); };
      const no = button("Cancel", close, { autofocus: true });
      return [element("p", {}, text),
        element("div", { class: "row end" }, no, button(yes, agree, { kind: danger ? "danger" : "primary" }))];
    });
    dialog.addEventListener("close", () => answer(agreed));
  });
}
