// The live view: server-sent events, read by hand because EventSource cannot send a header.

import * as api from "./api.js";

const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 15_000;

// Parses a stream piece by piece and returns its events (HTML standard, section 9.2.6). An event without data only
// advances the position.
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

// Keeps a stream open from `lastId` on until `signal` is aborted. `give` gets every event, and `state` the state of
// the connection: "live", "waiting", or "ended" while the host's own sign-in refuses it.
async function stream(lastId, give, state, signal) {
  let pause = FIRST_PAUSE;
  let opened = false;

  const once = async () => {
    const answer = await api.events(lastId, signal);
    if (answer.status === 401) {
      api.session.end(new api.Problem(401));
      return;
    }
    if (!answer.ok || !answer.body) throw new Error(`the server answered ${answer.status}`);
    // Without a position to resume from, the events since the last connection are unknown.
    if (opened && lastId === undefined) give({ type: "reset", data: "{}" });
    opened = true;
    pause = FIRST_PAUSE;
    state("live");
    const feed = parser((event) => {
      if (event.id !== undefined) lastId = event.id;
      give(event);
    });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      feed(value);
    }
  };

  while (!signal.aborted) {
    let refused = false;
    try {
      await once();
    } catch (error) {
      // It is tried again after a pause, since the user may sign in in another tab.
      refused = error.status === 401;
    }
    if (signal.aborted) return;
    state(refused ? "ended" : "waiting");
    const wait = pause * (0.5 + Math.random() / 2);
    pause = Math.min(pause * 2, LONGEST_PAUSE);
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, wait);
      signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
    });
  }
}

// A browser opens six connections to a server, and a stream holds one. So one tab streams for all: the visible tab
// that holds the lock. A hidden tab releases the lock and streams nothing. The streaming tab passes on each event with the
// id of the event before, so each tab notices when it missed one.
const SHARED = `webhook-panel-events ${new URL("events", api.BASE).pathname}`;

// Receives events, wherever the stream is. `hear(type, data)` gets `run`, `progress` and `log`, and `reset` when
// events were missed; `state("live" | "waiting" | "ended")` gets the state of the connection.
export function listen(hear, state) {
  const stop = new AbortController();
  const channel = typeof BroadcastChannel === "function" ? new BroadcastChannel(SHARED) : null;
  let lastId;
  let leading = null;
  let shown;
  let begin;
  const ready = new Promise((resolve) => { begin = resolve; });

  const show = (now) => {
    shown = now;
    state(now);
    if (now === "live") begin();
  };
  const tellOthers = (message) => channel?.postMessage(message);

  const give = (event) => {
    tellOthers({ after: lastId, id: event.id, type: event.type, data: event.data });
    if (event.id !== undefined) lastId = event.id;
    if (event.data) hear(event.type, JSON.parse(event.data));
  };

  const lead = (signal) => stream(lastId, give, (now) => {
    show(now);
    tellOthers({ state: now, id: lastId });
  }, signal);

  const heard = ({ data: message }) => {
    if (message.ask) {
      if (leading?.held) tellOthers({ state: shown, id: lastId });
      return;
    }
    if (leading?.held) return;
    const before = message.state ? message.id : message.after;
    // A restarted stream does not know the events before it.
    const missed = lastId !== undefined && message.id !== undefined && before !== lastId;
    if (message.id !== undefined) lastId = message.id;
    if (message.state) show(message.state);
    if (missed) hear("reset", null);
    else if (message.data) hear(message.type, JSON.parse(message.data));
  };

  const begins = async () => {
    const own = { end: new AbortController(), held: false };
    leading = own;
    const held = async () => {
      own.held = true;
      await lead(own.end.signal);
    };
    try {
      if (navigator.locks) {
        tellOthers({ ask: true });
        await navigator.locks.request(SHARED, { signal: own.end.signal }, held);
      } else {
        // Without locks, as on plain http, every visible tab has its own stream.
        await held();
      }
    } catch (error) {
      if (error.name !== "AbortError") throw error;
    }
  };
  const ends = () => {
    leading?.end.abort();
    leading = null;
  };
  const turn = () => {
    if (document.hidden || stop.signal.aborted) ends();
    else if (!leading) begins();
  };

  if (channel && navigator.locks) channel.addEventListener("message", heard);
  document.addEventListener("visibilitychange", turn);
  // A page that is left releases the lock at once, so that the next page need not wait.
  addEventListener("pagehide", ends);
  addEventListener("pageshow", turn);
  stop.signal.addEventListener("abort", () => {
    document.removeEventListener("visibilitychange", turn);
    removeEventListener("pagehide", ends);
    removeEventListener("pageshow", turn);
    ends();
    channel?.close();
  });
  turn();
  return { ready, stop: () => stop.abort() };
}
