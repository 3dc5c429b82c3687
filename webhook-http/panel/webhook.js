// One webhook as a card: switched on and off in its head, everything else when it is opened.

import * as api from "./api.js";
import { button, element, fill, freshId, icon, tabs, whileBusy } from "./dom.js";
import { exactTime, timeAgo } from "./format.js";
import { ask, tell, tellProblem } from "./messages.js";
import { openRunForm } from "./run-form.js";
import { settingsForm } from "./settings.js";
import { snippetView } from "./snippet-view.js";
import { urlRow } from "./url.js";

export function webhookCard(webhook, workflow, { gone, open }) {
  const title = element("span", { class: "card-title" });
  const facts = element("span", { class: "card-facts quiet" });
  const body = element("div", { class: "card-body", id: freshId("webhook"), hidden: true });
  const expand = element("button", { type: "button", class: "card-open", "aria-expanded": "false",
    "aria-controls": body.id, on: { click: () => unfold(body.hidden) } }, icon("chevron"),
  element("span", { class: "grow" }, title, facts));
  const enabled = element("input", { type: "checkbox", role: "switch", id: freshId("enabled"),
    on: { change: () => switchOver() } });
  const start = button("Run now", () => openRunForm(workflow, [webhook]), { kind: "quiet", symbol: "play" });
  const card = element("article", { class: "card" }, element("div", { class: "card-head" }, expand, start, enabled), body);
  let url = null;

  const name = () => webhook.label ?? "Unnamed webhook";

  const chips = () => [webhook.enabled ? null : "disabled", webhook.allow_get ? null : "POST only",
    webhook.strict ? "strict" : null].filter(Boolean).map((word) => element("span", { class: "chip" }, word));

  const drawHead = () => {
    fill(title, name());
    fill(facts, element("span", { title: exactTime(webhook.last_used_at) },
      webhook.last_used_at ? `used ${timeAgo(webhook.last_used_at)}` : "never used"), chips());
    enabled.checked = webhook.enabled;
    enabled.setAttribute("aria-label", `${name()} enabled`);
    start.setAttribute("aria-label", `Run now by ${name()}`);
    card.classList.toggle("off", !webhook.enabled);
  };

  const changed = (record) => {
    Object.assign(webhook, record);
    drawHead();
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
      "Its URL stops working at once, and runs that wait are cancelled. Its history is kept.", "Delete", { danger: true });
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
      fill(body);
      return;
    }
    url = urlRow(webhook, changed);
    fill(body, url.element, tabs(`${name()}: what to see`, [
      { title: "Call it", content: () => snippetView(webhook, workflow) },
      { title: "Settings", content: () => [settingsForm(webhook, changed),
        element("div", { class: "danger-zone" }, remove)] },
    ]));
  };

  drawHead();
  if (open) unfold(true);
  return card;
}
