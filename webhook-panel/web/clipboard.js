// Copies text, even where the Clipboard API is refused, as in many frames and on plain http.

import { element } from "./dom.js";
import { openDialog } from "./messages.js";

// `text` may be a promise. First it is passed on unresolved: some browsers require that copying happens within the
// click.
export async function copy(text, what) {
  const pending = Promise.resolve(text);
  try {
    const blob = pending.then((known) => new Blob([known], { type: "text/plain" }));
    await navigator.clipboard.write([new ClipboardItem({ "text/plain": blob })]);
    return true;
  } catch {
    return copyByHand(await pending, what);
  }
}

async function copyByHand(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    if (copySelected(text)) return true;
  }
  offer(text, what);
  return false;
}

function copySelected(text) {
  const area = element("textarea", { class: "off-screen", readonly: true, "aria-hidden": "true", value: text });
  const focused = document.activeElement;
  (document.querySelector("dialog[open]") ?? document.body).append(area);
  area.select();
  let copied = false;
  try {
    copied = document.execCommand("copy");
  } catch {
    copied = false;
  }
  area.remove();
  focused?.focus();
  return copied;
}

function offer(text, what) {
  const area = element("textarea", { class: "code", readonly: true, rows: 4, "aria-label": what, value: text });
  openDialog(`Copy ${what}`, () => [
    element("p", {}, "This browser did not let the page copy. The text is selected: press Ctrl+C or ⌘C."), area]);
  area.select();
}
