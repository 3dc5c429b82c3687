// One workflow: its webhooks, its parameter blocks and its runs.

import * as api from "./api.js";
import { button, element, emptyState, errorState, fill, freshId, icon, keepingFocus, whileBusy } from "./dom.js";
import { showProblems, text, toggle } from "./fields.js";
import { count, exactTime, shown, timeAgo, workflowName } from "./format.js";
import { history } from "./history.js";
import { openDialog, tell } from "./messages.js";
import { openRunForm } from "./run-form.js";
import { isUnsaved } from "./unsaved.js";
import { showNewUrl } from "./url.js";
import { webhookCard } from "./webhook.js";

const SHOWN_AT_FIRST = 25;
const MANY = 8;

export function workflowPage(main, world, workflow, { filters }) {
  const start = () => openRunForm(workflow, workflow.webhooks);
  const runNow = button("Run now", start, { kind: "primary", symbol: "play" });
  const hooks = element("section", { "aria-labelledby": "webhooks" });
  const runs = element("section", { "aria-labelledby": "runs", class: "runs-column" });
  const list = element("div");
  const refused = element("div", { class: "refused-calls" });
  fill(runs, element("div", { class: "section-head" }, element("h2", { id: "runs" }, "Runs")), list);
  fill(main,
    element("div", { class: "page-head" },
      element("div", { class: "grow" }, element("h1", {}, workflow.title),
        element("code", { class: "quiet" }, workflowName(workflow))), runNow),
    workflow.unavailable ? element("div", { class: "notice bad", role: "note" }, icon("alert"),
      element("div", { class: "grow" }, element("strong", {}, "This workflow cannot be run here, so calls are refused"),
        element("p", {}, workflow.unavailable))) : null,
    element("div", { class: "split" }, element("div", {}, hooks, refused, parameters(workflow)), runs));
  const past = history(list, world, { workflow, filters });
  const changed = () => {
    runNow.disabled = workflow.webhooks.length === 0 || Boolean(workflow.unavailable);
    past.offerOthers();
  };
  const update = webhookList(hooks, world, workflow, changed);
  const drawRefused = () => fill(refused, refusedCalls(workflow.refused));
  drawRefused();
  changed();
  // No event reports that a webhook was changed elsewhere, so they are read again when the user returns to the page.
  const seen = async () => {
    const now = await world.readAgain(workflow);
    if (!now || (!isUnsaved() && described(now) !== described(workflow))) {
      world.showAnew();
      return;
    }
    workflow.refused = now.refused;
    drawRefused();
    update(now.webhooks);
  };
  return {
    seen,
    again: () => Promise.all([seen(), past.again()]),
    leave: past.leave,
  };
}

// Calls without a valid token belong to no webhook.
const refusedCalls = ({ unauthorized, last_at: at } = { unauthorized: 0 }) => (unauthorized
  ? element("p", { class: "hint", title: exactTime(at) },
    `${count(unauthorized, "call")} without a valid token since the server started, the last one ${timeAgo(at)}.`) : null);

const described = ({ title, parameters: blocks, unavailable }) => JSON.stringify([title, blocks, unavailable]);

// Returns the function that takes the current webhooks.
function webhookList(section, world, workflow, changed) {
  let wanted = "";
  let limit = SHOWN_AT_FIRST;
  const cards = element("div", { class: "cards" });
  const known = new Map();
  const filter = element("input", { type: "search", placeholder: "Filter webhooks", "aria-label": "Filter webhooks",
    on: { input: () => { wanted = filter.value.trim().toLowerCase(); draw(); } } });
  const create = button("New webhook", () => openCreate(workflow, (webhook) => {
    workflow.webhooks.unshift(webhook);
    draw(webhook.id);
    changed();
    world.reload();
  }), { symbol: "plus" });

  const gone = (webhook) => {
    workflow.webhooks.splice(workflow.webhooks.findIndex((one) => one.id === webhook.id), 1);
    forget(webhook.id);
    draw();
    changed();
    world.reload();
    create.focus();
  };

  const draw = (open) => {
    const all = workflow.webhooks;
    filter.hidden = all.length < MANY;
    const fits = (webhook) => `${webhook.label ?? ""} ${webhook.token_hint}`.toLowerCase().includes(wanted);
    const fitting = all.filter(fits);
    const cardOf = (webhook) => {
      if (!known.has(webhook.id)) {
        const isOpen = open === webhook.id || all.length === 1;
        known.set(webhook.id, webhookCard(webhook, workflow, world, { gone, altered: changed, open: isOpen }));
      }
      return known.get(webhook.id).element;
    };
    const shown = fitting.slice(0, limit).map(cardOf);
    const isSame = shown.length === cards.children.length && shown.every((card, place) => card === cards.children[place]);
    if (shown.length && isSame) return;
    keepingFocus(cards, () => {
      fill(cards, shown);
      if (fitting.length > limit) {
        cards.append(button(`Show all ${count(fitting.length, "webhook")}`, () => { limit = Infinity; draw(); }));
      }
      if (all.length === 0) {
        cards.append(emptyState("No webhook yet", "A webhook gives this workflow a URL. Whoever calls it starts a run."));
      } else if (fitting.length === 0) {
        cards.append(emptyState("No webhook fits the filter"));
      }
    });
  };

  const forget = (id) => {
    known.get(id)?.close();
    known.delete(id);
  };

  const update = (webhooks) => {
    const before = new Map(workflow.webhooks.map((one) => [one.id, one]));
    const here = new Set(webhooks.map((one) => one.id));
    [...known.keys()].filter((id) => !here.has(id)).forEach(forget);
    // A card keeps the object from which it was made.
    const now = webhooks.map((one) => {
      known.get(one.id)?.update(one);
      return Object.assign(before.get(one.id) ?? one, one);
    });
    workflow.webhooks.splice(0, Infinity, ...now);
    draw();
    changed();
  };

  fill(section, element("div", { class: "section-head" }, element("h2", { id: "webhooks" }, "Webhooks"), filter, create),
    cards);
  draw();
  return update;
}

function openCreate(workflow, made) {
  openDialog("New webhook", (close) => {
    const label = text("label", "Label", { hint: "Who will call it: one webhook per caller is good practice.",
      maxlength: 200, placeholder: "Nightly build", autofocus: true });
    const get = toggle("allow_get", "May be called by GET", true, "Convenient for links; switch it off for POST only.");
    const strict = toggle("strict", "Strict", false, "Refuse parameters the workflow does not declare.");
    const said = element("div");
    const submit = element("button", { type: "submit", class: "button primary" }, "Create");
    const form = element("form", { class: "form", novalidate: true, on: { submit: (event) => {
      event.preventDefault();
      whileBusy(submit, async () => {
        const { kind, id } = workflow;
        const content = { workflow: { kind, id }, label: label.read(), allow_get: get.read(), strict: strict.read() };
        try {
          const created = await api.createWebhook(content);
          close();
          made(created.webhook);
          tell("The webhook was created.");
          showNewUrl("The webhook is ready", created.url);
        } catch (error) {
          const problem = api.asProblem(error);
          if (!showProblems([label, get, strict], problem, said)) fill(said, errorState(problem));
        }
      });
    } } }, label.element, get.element, strict.element, said,
    element("div", { class: "row end" }, button("Cancel", close), submit));
    return form;
  });
}

function parameters(workflow) {
  const heading = freshId("parameters");
  const row = (block) => element("tr", {},
    element("th", { scope: "row" }, element("code", {}, block.name),
      block.required ? element("span", { class: "chip" }, "required") : null,
      block.secret ? element("span", { class: "chip" }, "secret") : null,
      block.description ? element("p", { class: "quiet" }, block.description) : null),
    element("td", {}, block.type === "choice" ? block.choices.join(", ") : block.type),
    element("td", {}, block.default === null ? "–" : element("code", {}, shown(block.default))));
  const table = element("div", { class: "scroll", tabindex: "0", role: "region", "aria-labelledby": heading },
    element("table", {}, element("thead", {}, element("tr", {}, ["Name", "Type", "Default"].map((title) =>
      element("th", { scope: "col" }, title)))), element("tbody", {}, workflow.parameters.map(row))));
  return element("section", { "aria-labelledby": heading },
    element("div", { class: "section-head" }, element("h2", { id: heading }, "Parameters")),
    workflow.parameters.length ? table : workflow.unavailable ? emptyState("Not known while the workflow is unavailable")
      : emptyState("No parameters", "Whatever a call sends is passed on as it is, unless its webhook is strict."));
}
