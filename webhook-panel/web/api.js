// The management API, and the session that opens it. The token is kept for this tab only, and is sent as a header,
// never in a URL.

export const BASE = new URL("admin/api/v1/", document.baseURI);
const KEPT_AS = "webhook-panel-token";
const PAGE = 200;

export const needsToken = () => document.documentElement.dataset.signIn !== "none";

export const session = {
  onEnd: () => {},
  // The server lets this page in, also after it did not.
  onEntry: () => {},
  get token() { return sessionStorage.getItem(KEPT_AS); },
  begin(token) { sessionStorage.setItem(KEPT_AS, token); },
  end(reason) {
    sessionStorage.removeItem(KEPT_AS);
    this.onEnd(reason);
  },
};

// An error document (RFC 9457), or the lack of an answer.
export class Problem extends Error {
  constructor(status, content = {}) {
    super(content.title ?? "Something went wrong");
    this.status = status;
    this.slug = String(content.type ?? "").split(":").pop();
    this.title = this.message;
    this.detail = content.detail ?? "";
    this.errors = content.errors ?? [];
  }
}

export const asProblem = (error) =>
  (error instanceof Problem ? error : new Problem(0, { title: "The panel failed", detail: String(error) }));

function headers(extra) {
  const all = new Headers(extra);
  if (session.token) all.set("Authorization", `Bearer ${session.token}`);
  return all;
}

const ended = () => new Problem(401, { title: "Your session has ended", detail: "Sign in again, then try again." });
const unreachable = () =>
  new Problem(0, { title: "The server cannot be reached", detail: "Check that it runs, then try again." });

// Whether a host with a sign-in of its own refuses this browser: by 401, by a redirect, or by a form in place of the
// answer. An artifact may itself be a page.
function isSignedOut(answer, accept) {
  if (answer.status === 401 || answer.type === "opaqueredirect") return true;
  return answer.ok && accept !== "*/*" && /^text\/html\b/i.test(answer.headers.get("Content-Type") ?? "");
}

// Fetches without following redirects, since no path of the API has any.
async function ask(path, options) {
  const answer = await fetch(new URL(path, BASE), { ...options, cache: "no-store", redirect: "manual" });
  if (!needsToken() && isSignedOut(answer, options.headers.get("Accept"))) {
    const problem = ended();
    session.end(problem);
    throw problem;
  }
  if (answer.type === "opaqueredirect") throw unreachable();
  if (answer.ok) session.onEntry();
  return answer;
}

// Returns the answer itself if it is not an error.
export async function send(method, path, { body, revision, signal, accept } = {}) {
  const own = headers({ Accept: accept ?? "application/json" });
  if (body !== undefined) own.set("Content-Type", "application/json");
  if (revision !== undefined) own.set("If-Match", `"${revision}"`);
  let answer;
  try {
    answer = await ask(path, { method, headers: own, body, signal });
  } catch (error) {
    if (error.name === "AbortError" || error instanceof Problem) throw error;
    throw unreachable();
  }
  if (answer.ok) return answer;
  const content = await answer.json().catch(() => ({ title: `The server answered ${answer.status}` }));
  const problem = new Problem(answer.status, content);
  if (answer.status === 401) session.end(problem);
  throw problem;
}

async function json(method, path, body, options = {}) {
  const text = body === undefined ? undefined : JSON.stringify(body);
  const answer = await send(method, path, { ...options, body: text });
  return answer.status === 204 ? null : parseExact(await answer.text());
}

export const parseExact = (text) => JSON.parse(text, exact);

// Integers beyond JavaScript's keep every digit, if the browser can parse them.
function exact(name, value, context) {
  const rounded = typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value);
  return rounded && context?.source && JSON.rawJSON ? JSON.rawJSON(context.source) : value;
}

const segment = encodeURIComponent;

// The server's public base URL. Behind a proxy, that is not where this page was opened.
let base = new URL(".", document.baseURI).href;
export const baseUrl = () => base.replace(/\/+$/, "");

let described = null;

// Reads the server's own base URL from its API description, once.
export function readBaseUrl() {
  described ??= fetch(new URL("api/v1/openapi.json", document.baseURI), { redirect: "error" })
    .then((answer) => (answer.ok ? answer.json() : {}))
    .then(({ servers }) => { base = servers?.[0]?.url ?? base; })
    // A server that hides its description is called where this page was opened.
    .catch(() => { described = null; });
  return described;
}

export const workflows = (cursor) => json("GET", `workflows?${query({ limit: PAGE, cursor })}`);
export const workflow = ({ kind, id }) => json("GET", `workflows/${segment(kind)}/${segment(id)}`);
export const webhooks = (filter) => json("GET", `webhooks?${query({ limit: PAGE, ...filter })}`);
export const webhook = (id) => json("GET", `webhooks/${segment(id)}`);
export const createWebhook = (content) => json("POST", "webhooks", content);
export const changeWebhook = (id, patch, revision) => json("PATCH", `webhooks/${segment(id)}`, patch, { revision });
export const deleteWebhook = (id) => json("DELETE", `webhooks/${segment(id)}`);
export const url = async (id) => (await json("GET", `webhooks/${segment(id)}/url`)).url;
export const refreshToken = async (id) => (await json("POST", `webhooks/${segment(id)}/refresh-token`)).url;
export const testNotification = (id) => json("POST", `webhooks/${segment(id)}/test-notification`);
export const secrets = async (id) => (await json("GET", `webhooks/${segment(id)}/secrets`)).items;
export const addSecret = (id, content) => json("POST", `webhooks/${segment(id)}/secrets`, content);
export const removeSecret = (id, secret) => json("DELETE", `webhooks/${segment(id)}/secrets/${segment(secret)}`);
export const preview = (id, sample) => json("POST", `webhooks/${segment(id)}/preview`, sample);
export const calls = (id, filter) => json("GET", `webhooks/${segment(id)}/calls?${query(filter)}`);
export const replayCall = (id, call) => json("POST", `webhooks/${segment(id)}/calls/${segment(call)}/replay`);
export const client = () => json("GET", "client");

// What a server has changes only with its next start, so it is read once.
const kept = new Map();
function listOnce(name) {
  if (!kept.has(name)) {
    const read = json("GET", name).then(({ items }) => items);
    read.catch(() => kept.delete(name));
    kept.set(name, read);
  }
  return kept.get(name);
}
export const channels = () => listOnce("channels");
export const presets = () => listOnce("presets");
export const recipes = () => listOnce("recipes");
export const runs = (filter) => json("GET", `runs?${query(filter)}`);
export const run = (id) => json("GET", `runs/${segment(id)}`);
export const cancelRun = (id) => json("POST", `runs/${segment(id)}/cancel`);
export const retryRun = (id) => json("POST", `runs/${segment(id)}/retry`);
export const deliveries = (filter) => json("GET", `deliveries?${query(filter)}`);
export const deliveriesOf = (run) => json("GET", `deliveries?${query({ run, limit: PAGE })}`);
export const resendAll = (filter, cursor, dryRun) =>
  json("POST", "deliveries/resend", { filter, cursor, dry_run: dryRun });
export const resend = (id) => json("POST", `deliveries/${segment(id)}/resend`);

// Starts a run. The body is already text, because a number may be longer than JavaScript's.
export const startRun = async (id, body) =>
  (await send("POST", `webhooks/${segment(id)}/run`, { body })).json();

// Calls a webhook as a sender does, at the address of this page. Returns the answer, whatever it is.
export async function callWebhook({ kind, id }, token, { headers: own, body }) {
  const address = new URL(`api/v1/${segment(kind)}/${segment(id)}/webhook`, document.baseURI);
  const all = new Headers(own);
  all.set("Authorization", `Bearer ${token}`);
  const answer = await fetch(address, { method: "POST", headers: all, body, cache: "no-store", redirect: "error" });
  return { status: answer.status, text: await answer.text() };
}

export const artifact = (run, name) =>
  send("GET", `runs/${segment(run)}/artifacts/${segment(name)}`, { accept: "*/*" });

// Reads a part of a run's log: its offset, the offset of the next part, and its text.
export async function log(run, offset) {
  const answer = await send("GET", `runs/${segment(run)}/log?offset=${offset}`, { accept: "text/plain" });
  const place = (name) => Number(answer.headers.get(name));
  return { start: place("Webhook-Log-Offset"), end: place("Webhook-Log-End"), text: await answer.text() };
}

export const events = (lastId, signal) => {
  const own = headers({ Accept: "text/event-stream" });
  if (lastId) own.set("Last-Event-ID", lastId);
  return ask("events", { headers: own, signal });
};

function query(fields) {
  const given = Object.entries(fields).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return new URLSearchParams(given).toString();
}
