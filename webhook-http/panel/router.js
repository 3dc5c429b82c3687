// Addresses: `#/` all runs, `#/notifications` who was told, `#/{kind}/{id}` one workflow, `#/{kind}/{id}/runs/{run_id}` one run.

export function place(hash) {
  let parts;
  try {
    parts = hash.replace(/^#?\/?/, "").split("/").filter(Boolean).map(decodeURIComponent);
  } catch {
    return { page: "missing" };
  }
  if (parts.length === 0) return { page: "home" };
  if (parts.length === 1 && parts[0] === "notifications") return { page: "deliveries" };
  const [kind, id, word, run] = parts;
  if (parts.length === 2) return { page: "workflow", kind, id };
  if (parts.length === 4 && word === "runs") return { page: "run", kind, id, run };
  return { page: "missing" };
}

export function go(address) {
  location.hash = address;
}

export function onMove(act) {
  addEventListener("hashchange", act);
  return () => removeEventListener("hashchange", act);
}
