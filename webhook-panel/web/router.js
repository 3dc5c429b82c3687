// Addresses: `#/` all runs, `#/notifications` all notifications, `#/{kind}/{id}` one workflow,
// `#/{kind}/{id}/runs/{run_id}` one run. The filters of the page's list follow a question mark.

export function place(hash) {
  const [path, query] = hash.replace(/^#?\/?/, "").split("?");
  const filters = Object.fromEntries(new URLSearchParams(query));
  let parts;
  try {
    parts = path.split("/").filter(Boolean).map(decodeURIComponent);
  } catch {
    return { page: "missing", filters };
  }
  if (parts.length === 0) return { page: "home", filters };
  if (parts.length === 1 && parts[0] === "notifications") return { page: "deliveries", filters };
  const [kind, id, word, run] = parts;
  if (parts.length === 2) return { page: "workflow", kind, id, filters };
  if (parts.length === 4 && word === "runs") return { page: "run", kind, id, run, filters };
  return { page: "missing", filters };
}

export function go(address) {
  location.hash = address;
}

export function onMove(act) {
  addEventListener("hashchange", act);
  return () => removeEventListener("hashchange", act);
}

let shown = location.hash;

// Records that the page of the current address is shown.
export function arrived() {
  shown = location.hash;
}

// Restores the address of the visible page, when the user stays after all.
export function stay() {
  if (location.hash !== shown) history.pushState(null, "", shown || "#/");
}

// Puts the chosen filters into the address, so that Back and a reload restore them.
export function keepFilters(filters) {
  const chosen = Object.entries(filters).filter(([, value]) => value);
  const [path] = (location.hash || "#/").split("?");
  const address = chosen.length ? `${path}?${new URLSearchParams(chosen)}` : path;
  if (address !== location.hash) history.pushState(null, "", address);
  arrived();
}
