// One webhook as a card: its switch in the header, everything else when it is opened.

import * as api from "./api.js";
import { watchCalls } from "./call-watch.js";
import { callsView } from "./calls.js";
import { button, element, fill, freshId, icon, tabs, whileBusy } from "./dom.js";
import { exactTime, maskedUrl, timeAgo } from "./format.js";
import { ask, tell, tellProblem } from "./messages.js";
import { openRunForm } from "./run-form.js";
import { senderView } from "./sender.js";
import { settingsForm } from "./settings.js";
import { snippetView } from "./snippet-view.js";
import { openTestCall } from "./test-call.js";
import { urlRow } from "./url.js";

// `gone` and `altered` are called when the webhook was deleted or changed here. The card takes changes from elsewhere
// by `update`. `world` has the events of the page.
export function webhookCard(webhook, workflow, world, { gone, altered, open }) {
  const title = element("span", { class: "card-title" });
  const facts = element("span", { class: "card-facts quiet" });
  const body = element("div", { class: "card-body", id: freshId("webhook"), hidden: true });
  const expand = element("button", { type: "button", class: "card-open", "aria-expanded": "false",
    "aria-controls": body.id, on: { click: () => unfold(body.hidden) } }, icon("chevron"),
  element("span", { class: "grow" }, title, facts));
  const enabled = element("input", { type: "checkbox", role: "switch", id: freshId("enabled"),
    on: { change: () => switchOver() } });
  const start = button("Run now", () => openRunForm(workflow, [webhook]), { kind: "quiet", symbol: "play",
    disabled: Boolean(workflow.unavailable) });
  const card = element("article", { class: "card" }, element("div", { class: "card-head" }, expand, start, enabled), body);
  const calls = element("div");
  const test = button("Send a test call", () => openTestCall(webhook, workflow), { symbol: "play" });
  let url = null;
  let watch = null;
  // The forms of the open card. Each is made when its tab is first shown.
  let forms = [];

  const name = () => webhook.label ?? "Unnamed webhook";

  const chips = () => [webhook.enabled ? null : "disabled", webhook.allow_get ? null : "POST only",
    webhook.strict ? "strict" : null, webhook.verification ? "verified" : null].filter(Boolean).map((word) => element("span", { class: "chip" }, word));

  const drawHead = () => {
    fill(title, name());
    fill(facts, element("span", { title: exactTime(webhook.last_used_at) },
      webhook.last_used_at ? `used ${timeAgo(webhook.last_used_at)}` : "never used"), chips());
    enabled.checked = webhook.enabled;
    enabled.setAttribute("aria-label", `${name()} enabled`);
    start.setAttribute("aria-label", `Run now by ${name()}`);
    card.classList.toggle("off", !webhook.enabled);
  };

  const drawCalls = () => fill(calls, snippetView(webhook, workflow));

  const update = (record) => {
    const before = [webhook.allow_get, maskedUrl(webhook)].join();
    Object.assign(webhook, record);
    drawHead();
    forms.forEach((form) => form.update(webhook));
    if (before === [webhook.allow_get, maskedUrl(webhook)].join()) return;
    url?.hide();
    if (url) drawCalls();
  };
  const changed = (record) => {
    update(record);
    altered();
  };

  const switchOver = () => whileBusy(enabled, async () => {
    const wanted = enabled.checked;
    try {
      changed(await api.changeWebhook(webhook.id, { enabled: wanted }));
      tell(wanted ? `${name()} is enabled.` : `${name()} is disabled: its callers get an error.`);
    } catch (error) {
      enabled.checked = webhook.enabled;
      tellProblem(api.asProblem(error));
    }
  });

  const remove = button("Delete webhook", () => whileBusy(remove, async () => {
    const agreed = await ask(`Delete ${name()}?`,
      "Its URL stops working at once, and queued runs are cancelled. Its history is kept.", "Delete", { danger: true });
    if (!agreed) return;
    try {
      await api.deleteWebhook(webhook.id);
      tell(`${name()} was deleted.`);
      gone(webhook);
    } catch (error) {
      tellProblem(api.asProblem(error));
    }
  }), { kind: "danger", symbol: "trash" });

  const unfold = (wanted) => {
    body.hidden = !wanted;
    expand.setAttribute("aria-expanded", String(wanted));
    card.classList.toggle("open", wanted);
    if (!wanted) {
      url?.hide();
      // Unsaved changes stay in the closed card.
      if (!forms.some((form) => form.isChanged())) empty();
      return;
    }
    if (url) return;
    url = urlRow(webhook, changed);
    watch = watchCalls(webhook, world.listens);
    drawCalls();
    fill(body, url.element, tabs(`${name()}: what to see`, [
      { title: "Call it", content: () => [calls, element("div", { class: "row test-call" }, test)] },
      { title: "Sender", keep: true, content: () => shownForm(senderView(webhook, workflow, changed, watch)) },
      { title: "Calls", keep: true, content: () => shownForm(callsView(webhook, workflow, watch)) },
      { title: "Settings", keep: true,
        content: () => [shownForm(settingsForm(webhook, changed)), element("div", { class: "danger-zone" }, remove)] },
    ]));
  };

  const shownForm = (form) => {
    forms.push(form);
    return form.element;
  };
  const empty = () => {
    forms.forEach((form) => form.close());
    watch?.close();
    forms = [];
    url = watch = null;
    fill(body);
  };

  drawHead();
  if (open) unfold(true);
  return { element: card, update, close: empty };
}
