// Artifacts were made by workflows, perhaps from callers' input. They are fetched with the session's token and shown
// where they can run nothing: HTML in a frame of a page with its own policy, text as text.

import * as api from "./api.js";
import { element } from "./dom.js";
import { count } from "./format.js";
import { openDialog } from "./messages.js";

const TEXTS = ["text/plain", "text/csv", "text/markdown", "application/json"];
const MOST_CHARACTERS = 1_000_000;

const essence = (artifact) => artifact.content_type.split(";")[0].trim().toLowerCase();

export const canShow = (artifact) => essence(artifact) === "text/html" || TEXTS.includes(essence(artifact));

export async function openArtifact(run, artifact) {
  const text = await (await api.artifact(run, artifact.name)).text();
  const content = essence(artifact) === "text/html" ? page(artifact.name, text) : plain(text);
  openDialog(artifact.name, () => content, { wide: true });
}

export async function saveArtifact(run, artifact) {
  save(artifact.name, await (await api.artifact(run, artifact.name)).blob());
}

export function save(name, blob) {
  const address = URL.createObjectURL(new Blob([blob], { type: "application/octet-stream" }));
  element("a", { href: address, download: name.split(/[/\\]/).pop() }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

function page(title, html) {
  // The frame has its own origin, so neither side can name the other as its target.
  const frame = element("iframe", { class: "artifact-frame", src: new URL("panel/artifact.html", document.baseURI),
    sandbox: "allow-scripts", referrerpolicy: "no-referrer", title: `Artifact ${title}` });
  const hand = (message) => {
    if (!frame.isConnected) removeEventListener("message", hand);
    else if (message.source === frame.contentWindow && message.data?.ready) {
      removeEventListener("message", hand);
      frame.contentWindow.postMessage({ html, title }, "*");
    }
  };
  addEventListener("message", hand);
  return frame;
}

function plain(text) {
  const rest = text.length - MOST_CHARACTERS;
  return [element("pre", { class: "text-artifact", tabindex: "0" }, text.slice(0, MOST_CHARACTERS)),
    rest > 0 ? element("p", { class: "quiet" }, `${count(rest, "more character")}: download it to read them.`) : null];
}
