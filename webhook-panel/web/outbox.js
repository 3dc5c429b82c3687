// Follows pending notifications until their outcome is known, since no event reports a try. It requests only the
// notifications of their runs, a few runs at a time, less and less often while nothing changes, and never while the
// page is hidden.

import * as api from "./api.js";

const FIRST_PAUSE = 1_000;
const LONGEST_PAUSE = 30_000;
const RUNS_AT_ONCE = 10;
const MOST_FOLLOWED = 100;

const facts = ({ state, attempts, last_error: error, next_at: next }) => JSON.stringify([state, attempts, error, next]);

// `hear` gets each notification that changed. `watch` starts to follow the pending ones.
export function follow(hear) {
  const pending = new Map();
  let pause = FIRST_PAUSE;
  let timer = 0;
  let asking = false;
  let stopped = false;

  const later = () => {
    clearTimeout(timer);
    if (pending.size && !stopped && !document.hidden) timer = setTimeout(round, pause);
  };

  // Returns whether any changed. Requested runs go to the end of the list, so that all have their turn.
  const ask = async (run) => {
    const { items } = await api.deliveriesOf(run);
    if (stopped) return false;
    let moved = false;
    for (const [id, known] of [...pending].filter(([, one]) => one.run_id === run)) {
      const found = items.find((one) => one.id === id);
      pending.delete(id);
      if (!found) continue;
      const now = { ...known, ...found };
      if (now.state === "pending") pending.set(id, now);
      if (facts(now) === facts(known)) continue;
      moved = true;
      hear(now);
    }
    return moved;
  };

  const round = async () => {
    if (asking) return;
    asking = true;
    let moved = false;
    const runs = [...new Set([...pending.values()].map((one) => one.run_id))].slice(0, RUNS_AT_ONCE);
    try {
      for (const run of runs) moved = await ask(run) || moved;
    } catch {
      // It is tried again after a longer pause.
    }
    asking = false;
    pause = moved ? FIRST_PAUSE : Math.min(pause * 2, LONGEST_PAUSE);
    later();
  };

  const turn = () => {
    pause = FIRST_PAUSE;
    later();
  };
  document.addEventListener("visibilitychange", turn);

  return {
    watch(deliveries) {
      let isNew = false;
      for (const one of deliveries) {
        const isPending = one.state === "pending";
        isNew ||= isPending && !pending.has(one.id);
        pending.delete(one.id);
        if (isPending) pending.set(one.id, one);
      }
      while (pending.size > MOST_FOLLOWED) pending.delete(pending.keys().next().value);
      if (isNew) turn();
    },
    stop() {
      stopped = true;
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", turn);
    },
  };
}
