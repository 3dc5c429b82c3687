// The live view: server-sent events, read by hand because EventSource cannot send a header.

import * as api from "./api.js";

const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 15_000;

// Takes the text of a stream piece by piece and gives out its events (HTML standard, section 9.2.6); one without
// data only says where the stream is.
export function parser(give) {
  let rest = "";
  let event = { type: "message", data: [], id: undefined };
  const line = (text) => {
    if (text === "") {
      give({ type: event.type, id: event.id, data: event.data.join("\n") });
      event = { type: "message", data: [], id: event.id };
      return;
    }
    const colon = text.indexOf(":");
    const [name, value] = colon < 0 ? [text, ""] : [text.slice(0, colon), text.slice(colon + 1).replace(/^ /, "")];
    if (name === "event") event.type = value;
    else if (name === "data") event.data.push(value);
    else if (name === "id") event.id = value;
  };
  return (piece) => {
    rest += piece;
    const lines = rest.split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop();
    lines.forEach(line);
  };
}

// Keeps one stream open. `hear(type, data)` is told of `run`, `progress` and `log`, and of `reset` when something
// was missed; `state("live" | "waiting")` of the connection.
export function listen(hear, state) {
  const stop = new AbortController();
  let lastId;
  let opened = false;
  let pause = FIRST_PAUSE;
  let begin;
  const ready = new Promise((resolve) => { begin = resolve; });

  const give = (event) => {
    if (event.id !== undefined) lastId = event.id;
    if (event.data) hear(event.type, JSON.parse(event.data));
  };

  const once = async () => {
    const answer = await api.events(lastId, stop.signal);
    if (answer.status === 401 && api.needsToken()) {
      api.session.end(new api.Problem(401));
      return;
    }
    if (!answer.ok || !answer.body) throw new Error(`the server answered ${answer.status}`);
    // Without a place to go on from, whatever happened since the last connection is unknown.
    if (opened && lastId === undefined) hear("reset", null);
    opened = true;
    pause = FIRST_PAUSE;
    state("live");
    begin();
    const feed = parser(give);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      feed(value);
    }
  };

  const forever = async () => {
    while (!stop.signal.aborted) {
      try {
        await once();
      } catch {
        if (stop.signal.aborted) return;
      }
      state("waiting");
      begin();
      const wait = pause * (0.5 + Math.random() / 2);
      pause = Math.min(pause * 2, LONGEST_PAUSE);
      await new Promise((resolve) => { setTimeout(resolve, wait); });
    }
  };
  forever();
  return { ready, stop: () => stop.abort() };
}
