// Formats values: times, durations, states, sizes, addresses.

import { baseUrl } from "./api.js";

export const STATES = {
  queued: "Queued", running: "Running", succeeded: "Succeeded", failed: "Failed", timed_out: "Timed out",
  cancelled: "Cancelled", skipped: "Skipped",
};

export const DELIVERY_STATES = { given_up: "Given up", pending: "Pending", delivered: "Delivered" };

export const CHANNELS = { email: "Email", slack: "Slack" };

// The name of a channel. A host's own channel, such as `teams`, is shown as Teams.
export const channelName = (channel) =>
  (Object.hasOwn(CHANNELS, channel) ? CHANNELS[channel] : channel.charAt(0).toUpperCase() + channel.slice(1));

export const isLive = (state) => state === "queued" || state === "running";

const moment = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });
const number = new Intl.NumberFormat();

export const exactTime = (text) => (text ? moment.format(new Date(text)) : "never");

const UNITS = [["day", 86_400], ["hour", 3_600], ["minute", 60]];

export function timeAgo(text) {
  if (!text) return "never";
  const seconds = (Date.parse(text) - Date.now()) / 1_000;
  if (Math.abs(seconds) < 45) return "just now";
  const [unit, size] = UNITS.find(([, size]) => Math.abs(seconds) >= size) ?? UNITS[2];
  return relative.format(Math.round(seconds / size), unit);
}

export function span(milliseconds) {
  if (!Number.isFinite(milliseconds)) return "";
  const seconds = Math.max(0, milliseconds) / 1_000;
  if (seconds < 1) return `${Math.round(seconds * 1_000)} ms`;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

// The duration of a run, or its duration so far.
export function duration(run) {
  if (!run.started_at) return "";
  return span((run.finished_at ? Date.parse(run.finished_at) : Date.now()) - Date.parse(run.started_at));
}

export function size(bytes) {
  if (bytes < 1_000) return `${bytes} B`;
  if (bytes < 1_000_000) return `${(bytes / 1_000).toFixed(1)} kB`;
  return `${(bytes / 1_000_000).toFixed(1)} MB`;
}

export const count = (amount, one, many = `${one}s`) => `${number.format(amount)} ${amount === 1 ? one : many}`;

export const shown = (value) => (typeof value === "string" ? value : JSON.stringify(value));

// The time at which an id (UUIDv7, RFC 9562) was generated.
export const timeOfId = (id) => new Date(parseInt(id.slice(0, 8) + id.slice(9, 13), 16)).toISOString();

export const webhookName = (webhook) => webhook.label ?? `Unnamed (…${webhook.token_hint})`;

export const workflowName = (workflow) => `${workflow.kind}/${workflow.id}`;

export const workflowAddress = (workflow) =>
  `#/${encodeURIComponent(workflow.kind)}/${encodeURIComponent(workflow.id)}`;

export const runAddress = (run) => `${workflowAddress(run.workflow)}/runs/${encodeURIComponent(run.id)}`;

// The URL of a webhook in the server's form, with its token hidden.
export function maskedUrl(webhook) {
  const { kind, id } = webhook.workflow;
  const path = `api/v1/${encodeURIComponent(kind)}/${encodeURIComponent(id)}/webhook`;
  return `${baseUrl()}/${path}?token=whk_••••••••${webhook.token_hint ?? ""}`;
}
