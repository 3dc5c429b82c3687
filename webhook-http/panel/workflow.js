// One workflow: its webhooks, its parameter blocks and its runs.

import * as api from "./api.js";
import { button, element, emptyState, errorState, fill, freshId, icon, whileBusy } from "./dom.js";
import { showProblems, text, toggle } from "./fields.js";
import { count, shown, workflowName } from "./format.js";
import { history } from "./history.js";
import { openDialog, tell } from "./messages.js";
import { openRunForm } from "./run-form.js";
import { showNewUrl } from "./url.js";
import { webhookCard } from "./webhook.js";

const SHOWN_AT_FIRST = 25;
const MANY = 8;

export function workflowPage(main, world, workflow) {
  const start = () => openRunForm(workflow, workflow.webhooks);
  const runNow = button("Run now", start, { kind: "primary", symbol: "play" });
  const hooks = element("section", { "aria-labelledby": "webhooks" });
  const runs = element("section", { "aria-labelledby": "runs", class: "runs-column" });
  const list = element("div");
  fill(runs, element("div", { class: "section-head" }, element("h2", { id: "runs" }, "Runs")), list);
  fill(main,
    element("div", { class: "page-head" },
      element("div", { class: "grow" }, element("h1", {}, workflow.title),
        element("code", { class: "quiet" }, workflowName(workflow))), runNow),
    workflow.unavailable ? element("div", { class: "notice bad", role: "note" }, icon("alert"),
      element("div", { class: "grow" }, element("strong", {}, "This workflow cannot be run here, so calls are refused"),
        element("p", {}, workflow.unavailable))) : null,
    element("div", { class: "split" }, element("div", {}, hooks, parameters(workflow)), runs));
  const enable = () => { runNow.disabled = workflow.webhooks.length === 0 || Boolean(workflow.unavailable); };
  webhookList(hooks, world, workflow, enable);
  enable();
  return history(list, world, { workflow });
}

function webhookList(section, world, workflow, changed) {
  let wanted = "";
  let limit = SHOWN_AT_FIRST;
  const cards = element("div", { class: "cards" });
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
    const card = (webhook) => webhookCard(webhook, workflow, { gone, open: open === webhook.id || all.length === 1 });
    fill(cards, fitting.slice(0, limit).map(card));
    if (fitting.length > limit) {
      cards.append(button(`Show all ${count(fitting.length, "webhook")}`, () => { limit = Infinity; draw(); }));
    }
    if (all.length === 0) {
      cards.append(emptyState("No webhook yet", "A webhook gives this workflow a URL. Whoever calls it starts a run."));
    } else if (fitting.length === 0) {
      cards.append(emptyState("No webhook fits the filter"));
    }
  };
  fill(section, element("div", { class: "section-head" }, element("h2", { id: "webhooks" }, "Webhooks"), filter, create),
    cards);
  draw();
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
    workflow.parameters.length ? table
      : emptyState("No parameters", "Whatever a call sends is passed on as it is, unless its webhook is strict."));
}
