// The call log of one webhook, kept up to date while it is looked at.

import * as api from "./api.js";

const PAGE = 50;
// Calls that are kept of one webhook, here as on the server.
const MOST = 200;

// `items()` are the calls, newest first, or null before they were read. `onChange(hear)` returns the function that ends
// it.
export function watchCalls(webhook, listens) {
  const hearers = new Set();
  let items = null;
  let cursor = null;
  let problem = null;
  let asked = 0;

  const change = () => hearers.forEach((hear) => hear());
  // Calls may be told before and after the list that has them, so each counts once.
  const merge = (added) => {
    const all = new Map([...(items ?? []), ...added].map((call) => [call.id, call]));
    items = [...all.values()].sort((one, other) => (one.id < other.id ? 1 : -1)).slice(0, MOST);
  };
  const load = async ({ more = false } = {}) => {
    asked += 1;
    const own = asked;
    try {
      const page = await api.calls(webhook.id, { limit: PAGE, cursor: more ? cursor : undefined });
      if (own !== asked) return;
      problem = null;
      // Without a gap to what is known, older calls stay.
      const isGap = !more && items && !page.items.some((call) => items.some((known) => known.id === call.id));
      if (isGap || !items || more) cursor = page.next_cursor;
      if (isGap) items = null;
      merge(page.items);
    } catch (error) {
      if (own !== asked) return;
      problem = api.asProblem(error);
    }
    change();
  };
  const forget = listens((type, data) => {
    if (type !== "calls" || data.webhook_id !== webhook.id || !hearers.size) return;
    if (data.truncated) load();
    merge(data.items);
    change();
  });
  return {
    items: () => items,
    problem: () => problem,
    hasMore: () => Boolean(cursor) && (items?.length ?? 0) < MOST,
    load,
    onChange(hear) {
      hearers.add(hear);
      if (hearers.size === 1) load();
      else hear();
      return () => hearers.delete(hear);
    },
    again: () => (hearers.size ? load() : undefined),
    close() {
      asked += 1;
      hearers.clear();
      forget();
    },
  };
}
