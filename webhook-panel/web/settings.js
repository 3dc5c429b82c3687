// The settings of a webhook: limits, overlap, retries and notifications.

import * as api from "./api.js";
import { button, element, fill, freshId, whileBusy } from "./dom.js";
import { difference, editor, grid, group } from "./editor.js";
import { area, boxes, choice, number, text, toggle } from "./fields.js";
import { channelName } from "./format.js";
import { tellProblem } from "./messages.js";

const OVERLAP = [["queue", "Queue: the new run waits"], ["skip", "Skip: the new run is not executed"],
  ["replace", "Replace: the running one is cancelled"], ["coalesce", "Coalesce: at most one waits"]];
const EVENTS = [["success", "Success"], ["failure", "Failure"]];

// The part of a webhook that the form shows.
const settingsOf = ({ label, allow_get, strict, timeout_s, queue_limit, rate_limit, retention_days, concurrency, retries,
  notifications }) => JSON.stringify([label, allow_get, strict, timeout_s, queue_limit, rate_limit, retention_days,
  concurrency, retries, notifications]);

// The form of a webhook's own settings. Those for its sender are in sender-form.js.
export const settingsForm = (webhook, changed) => editor(webhook, changed, { settingsOf, parts });

function parts(webhook) {
  const { retries, concurrency, rate_limit: rate, notifications: { email, slack } } = webhook;
  const retry = (name, label, hint) => number(`retries.${name}`, label,
    { value: retries[name], placeholder: "default", hint });
  const fields = {
    label: text("label", "Label", { value: webhook.label, maxlength: 200, hint: "Who calls it." }),
    allow_get: toggle("allow_get", "May be called by GET", webhook.allow_get, "Off: only POST starts a run."),
    strict: toggle("strict", "Strict", webhook.strict, "Refuse parameters the workflow does not declare."),
    timeout_s: number("timeout_s", "Time-out in seconds", { value: webhook.timeout_s, placeholder: "none" }),
    queue_limit: number("queue_limit", "Max queued runs", { value: webhook.queue_limit, placeholder: "half of all" }),
    per_minute: number("rate_limit.per_minute", "Calls per minute", { value: rate?.per_minute, placeholder: "no limit" }),
    burst: number("rate_limit.burst", "Burst", { value: rate?.burst, placeholder: "as per minute" }),
    retention_days: number("retention_days", "Retention in days", { value: webhook.retention_days, placeholder: "as the server does" }),
    max: number("concurrency.max", "Runs at once", { value: concurrency.max, placeholder: "no limit" }),
    on_overlap: choice("concurrency.on_overlap", "On overlap", OVERLAP, concurrency.on_overlap),
    max_attempts: retry("max_attempts", "Attempts", "1 means no retry."),
    base_s: retry("base_s", "First pause in seconds"),
    factor: retry("factor", "Backoff factor"),
    cap_s: retry("cap_s", "Longest pause in seconds"),
    jitter: retry("jitter", "Jitter", "The random share of each pause, from 0 to 1."),
    recipients: area("notifications.email.recipients", "Email to", { value: email?.recipients.join("\n"),
      placeholder: "someone@example.com", hint: "One address per line; empty for no email." }),
    email_on: boxes("notifications.email.on", "Email on", EVENTS, email?.on ?? ["failure"]),
    channel: text("notifications.slack.channel", "Slack channel", { value: slack?.channel, placeholder: "#reports",
      hint: "Empty for no message." }),
    slack_on: boxes("notifications.slack.on", "Slack on", EVENTS, slack?.on ?? ["failure"]),
  };
  const before = read(fields);
  const content = [fields.label.element, grid(fields.allow_get, fields.strict),
    group("Limits", grid(fields.timeout_s, fields.queue_limit, fields.per_minute, fields.burst, fields.retention_days)),
    group("Overlap", grid(fields.max, fields.on_overlap)),
    group("Retries", grid(fields.max_attempts, fields.base_s, fields.factor, fields.cap_s, fields.jitter)),
    group("Notifications", channel("email", Boolean(email), fields.recipients, fields.email_on),
      channel("slack", Boolean(slack), fields.channel, fields.slack_on), testing(webhook))];
  return { content, fields: () => Object.values(fields), patch: () => difference(before, read(fields)) };
}

// The content of the form, as settings in their wire form.
function read(fields) {
  const value = (name) => fields[name].read();
  const recipients = value("recipients").split(/[\s,;]+/).filter(Boolean);
  const [per_minute, burst] = [value("per_minute"), value("burst")];
  return {
    label: value("label"),
    allow_get: value("allow_get"),
    strict: value("strict"),
    timeout_s: value("timeout_s"),
    queue_limit: value("queue_limit"),
    rate_limit: per_minute === null && burst === null ? null : { per_minute, burst },
    retention_days: value("retention_days"),
    concurrency: { max: value("max"), on_overlap: value("on_overlap") },
    retries: { max_attempts: value("max_attempts"), base_s: value("base_s"), factor: value("factor"),
      cap_s: value("cap_s"), jitter: value("jitter") },
    notifications: {
      email: recipients.length ? { recipients, on: value("email_on") } : null,
      slack: value("channel") === null ? null : { channel: value("channel"), on: value("slack_on") },
    },
  };
}

// What to configure for a channel that the server has no integration for.
const MISSING = {
  email: "The server sends no email. Start webhook-server with --smtp, or give your own host a notifier for email.",
  slack: "The server has no integration for Slack. Start webhook-server with --slack-token, or give your own host a "
    + "notifier for Slack.",
};

// The fields of a channel. Without an integration they cannot be filled; recipients that are set can still be removed.
function channel(name, isSet, ...fields) {
  const said = element("p", { class: "quiet", id: freshId("missing"), hidden: true });
  const made = element("div", { role: "group", "aria-label": channelName(name), "aria-describedby": said.id, "data-channel": name },
    said, element("div", { class: "grid" }, fields.map((one) => one.element)));
  const show = (items) => {
    const isMissing = items.some((one) => one.channel === name && !one.available);
    if (!isMissing) return;
    fill(said, element("strong", {}, `${channelName(name)} is not available. `), MISSING[name]);
    said.hidden = false;
    if (!isSet) made.querySelectorAll("input, textarea").forEach((input) => { input.disabled = true; });
  };
  // Without the list, the server still refuses what it cannot send.
  api.channels().then(show, () => {});
  return made;
}

function testing(webhook) {
  const results = element("ul", { class: "bare results", "aria-live": "polite" });
  const test = button("Send a test notification", () => whileBusy(test, async () => {
    try {
      const { items } = await api.testNotification(webhook.id);
      const result = (item) => element("li", { class: item.delivered ? "good" : "problem" },
        `${item.recipient} (${item.channel}): ${item.delivered ? "delivered" : item.error}`);
      fill(results, items.length ? items.map(result)
        : element("li", { class: "quiet" }, "There are no recipients. Save an address or a channel first."));
    } catch (error) {
      tellProblem(api.asProblem(error));
    }
  }));
  return element("div", {}, test, results);
}
