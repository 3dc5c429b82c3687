// The view of a run's log, which follows it live. Only a bounded part is drawn: old lines are dropped, and a very long
// line is cut until the user asks for all of it.

import * as api from "./api.js";
import { button, element, fill } from "./dom.js";
import { count, size } from "./format.js";
import { save } from "./artifact.js";

const LONGEST_LINE = 4_000;
const LINES_IN_A_PIECE = 200;
const MOST_PIECES = 40;
const PAUSE = 250;

// A long text is cut until the user asks for all of it.
export function cut(text) {
  const rest = text.length - LONGEST_LINE;
  if (rest <= 0) return text;
  const more = button(`Show ${count(rest, "more character")}`, () => more.replaceWith(text.slice(LONGEST_LINE)),
    { kind: "quiet" });
  return [text.slice(0, LONGEST_LINE), more];
}

export function logView(run) {
  const lines = element("div", { class: "log-lines" });
  const box = element("div", { class: "log", role: "log", "aria-live": "off", tabindex: "0", "aria-label": "Log" }, lines);
  const note = element("p", { class: "quiet" });
  const download = button("Download", async () => save(`${run}.log`, new Blob([(await api.log(run, 0)).text])),
    { kind: "quiet", symbol: "download", "aria-label": "Download the log" });
  let offset = 0;
  let piece = null;
  let unfinished = null;
  let busy = false;
  let again = false;
  let stopped = false;

  const read = async () => {
    const part = await api.log(run, offset);
    if (stopped) return;
    if (part.start > offset) fill(note, `The first ${size(part.start - offset)} were dropped to keep the log small.`);
    offset = part.end;
    if (part.text) add(part.text);
    else if (!lines.firstChild) box.dataset.empty = "Nothing was logged yet.";
  };

  const add = (text) => {
    delete box.dataset.empty;
    const follows = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
    const whole = (unfinished?.text ?? "") + text;
    unfinished?.node.remove();
    unfinished = null;
    const parts = whole.split("\n");
    const rest = parts.pop();
    parts.forEach(line);
    if (rest) {
      const node = line(rest);
      if (rest.length < LONGEST_LINE) unfinished = { text: rest, node };
    }
    while (lines.children.length > MOST_PIECES) {
      lines.firstChild.remove();
      fill(note, "Older lines are not shown; download the log to read them.");
    }
    if (follows) box.scrollTop = box.scrollHeight;
  };

  const line = (text) => {
    if (!piece || piece.children.length >= LINES_IN_A_PIECE) {
      piece = element("div", { class: "log-piece" });
      lines.append(piece);
    }
    const node = element("div", { class: "log-line" }, cut(text));
    piece.append(node);
    return node;
  };

  // Reads new text, at most once in a while and one request at a time.
  const refresh = async () => {
    if (busy) {
      again = true;
      return;
    }
    busy = true;
    do {
      again = false;
      try {
        await read();
      } catch (error) {
        fill(note, api.asProblem(error).title);
      }
      await new Promise((resolve) => { setTimeout(resolve, PAUSE); });
    } while (again && !stopped);
    busy = false;
  };

  return {
    element: element("section", { "aria-label": "Log" },
      element("div", { class: "section-head" }, element("h2", {}, "Log"), note, download), box),
    refresh,
    stop: () => { stopped = true; },
  };
}
