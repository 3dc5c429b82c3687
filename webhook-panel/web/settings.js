// The settings of a webhook. Only changes are sent, and only if no other user changed it in the meantime.

import * as api from "./api.js";
import { button, element, errorState, fill, freshId, whileBusy } from "./dom.js";
import { area, boxes, canRead, choice, number, showProblems, text, toggle } from "./fields.js";
import { channelName } from "./format.js";
import { tell, tellProblem } from "./messages.js";
import { note } from "./unsaved.js";

const OVERLAP = [["queue", "Queue: the new run waits"], ["skip", "Skip: the new run is not executed"],
  ["replace", "Replace: the running one is cancelled"], ["coalesce", "Coalesce: at most one waits"]];
const EVENTS = [["success", "Success"], ["failure", "Failure"]];

// The part of a webhook that the form shows.
const settingsOf = ({ label, allow_get, strict, timeout_s, queue_limit, rate_limit, retention_days, concurrency, retries,
  notifications }) => JSON.stringify([label, allow_get, strict, timeout_s, queue_limit, rate_limit, retention_days,
  concurrency, retries, notifications]);

// `changed` gets the webhook's new record. The form says whether it `isChanged`, and takes a record that changed
// elsewhere: typed input stays, and saving it then reports that another user was faster.
export function settingsForm(webhook, changed) {
  const holder = element("div");
  let shown;
  let draft;
  const draw = (record) => {
    shown = { settings: settingsOf(record), revision: record.revision };
    draft = form(record, shown, {
      saved(next) {
        draw(next);
        changed(next);
        holder.querySelector("button[type=submit]").focus();
      },
      async readAgain() {
        try {
          const next = await api.webhook(record.id);
          draw(next);
          changed(next);
          holder.querySelector("input").focus();
        } catch (error) {
          tellProblem(api.asProblem(error));
        }
      },
    });
    fill(holder, draft.element);
  };
  draw(webhook);
  const isChanged = () => draft.isChanged();
  return {
    element: holder,
    isChanged,
    update(record) {
      if (settingsOf(record) === shown.settings) shown.revision = record.revision;
      else if (!isChanged()) draw(record);
    },
    close: note(isChanged),
  };
}

function form(webhook, shown, { saved, readAgain }) {
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
  const said = element("div");
  const save = element("button", { type: "submit", class: "button primary" }, "Save settings");
  const before = read(fields);

  const submit = () => whileBusy(save, async () => {
    if (!canRead(Object.values(fields))) return;
    const patch = difference(before, read(fields));
    if (Object.keys(patch).length === 0) {
      tell("Nothing was changed.");
      return;
    }
    try {
      saved(await api.changeWebhook(webhook.id, patch, shown.revision));
      tell("The settings were saved.");
    } catch (error) {
      const problem = api.asProblem(error);
      if (showProblems(Object.values(fields), problem, said)) return;
      fill(said, problem.status === 412 ? stale(readAgain) : errorState(problem));
    }
  });

  const group = (title, ...content) => element("fieldset", { class: "group" }, element("legend", {}, title), content);
  const grid = (...content) => element("div", { class: "grid" }, content.map((one) => one.element));
  const made = element("form", { class: "form", novalidate: true, on: { submit: (event) => {
    event.preventDefault();
    submit();
  } } },
  fields.label.element, grid(fields.allow_get, fields.strict),
  group("Limits", grid(fields.timeout_s, fields.queue_limit, fields.per_minute, fields.burst, fields.retention_days)),
  group("Overlap", grid(fields.max, fields.on_overlap)),
  group("Retries", grid(fields.max_attempts, fields.base_s, fields.factor, fields.cap_s, fields.jitter)),
  group("Notifications", channel("email", Boolean(email), fields.recipients, fields.email_on),
    channel("slack", Boolean(slack), fields.channel, fields.slack_on), testing(webhook)),
  said, element("div", { class: "row" }, save));
  const typed = () => JSON.stringify([...made.elements].map((one) => (one.type === "checkbox" ? one.checked : one.value)));
  const atFirst = typed();
  return { element: made, isChanged: () => typed() !== atFirst };
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

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

// The merge patch (RFC 7396) from one to the other.
export function difference(before, after) {
  const patch = {};
  for (const [name, value] of Object.entries(after)) {
    if (JSON.stringify(before[name]) === JSON.stringify(value)) continue;
    patch[name] = isObject(value) && isObject(before[name]) ? difference(before[name], value) : value;
  }
  return patch;
}

function stale(readAgain) {
  return element("div", { class: "notice bad", role: "alert" },
    element("div", { class: "grow" }, element("strong", {}, "Another user changed this webhook."),
      element("p", {}, "Load its current settings, then make your change again.")), button("Load", readAgain));
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
