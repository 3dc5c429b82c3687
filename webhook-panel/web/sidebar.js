// The workflows, grouped by kind, with a filter if there are many.

import { button, element, emptyState, fill } from "./dom.js";
import { count, workflowAddress } from "./format.js";

const MANY = 8;
const MOST_SHOWN = 200;

// Returns the function that redraws the list for the current page.
export function sidebar(container, catalogue) {
  let place = { page: "home" };
  let wanted = "";
  const list = element("div", { class: "side-list" });
  const filter = element("input", { type: "search", placeholder: "Filter workflows", hidden: true,
    "aria-label": "Filter workflows", on: { input: () => { wanted = filter.value.trim().toLowerCase(); draw(); } } });
  const all = element("a", { href: "#/", class: "side-item" }, element("span", { class: "side-title" }, "All runs"));
  const told = element("a", { href: "#/notifications", class: "side-item" },
    element("span", { class: "side-title" }, "Notifications"));
  fill(container, all, told, filter, list);

  const item = (workflow) => {
    const chosen = place.kind === workflow.kind && place.id === workflow.id;
    const hooks = workflow.webhooks.length;
    return element("li", {}, element("a", { class: "side-item", href: workflowAddress(workflow),
      "aria-current": chosen ? "page" : null },
    element("span", { class: "side-title" }, workflow.title),
    workflow.unavailable ? element("span", { class: "chip" }, "unavailable") : null,
    hooks ? element("span", { class: "count", title: count(hooks, "webhook") }, hooks,
      element("span", { class: "off-screen" }, hooks === 1 ? " webhook" : " webhooks")) : null));
  };

  const group = (kind, workflows) => [
    element("h2", { class: "side-head" }, kind),
    element("ul", { class: "bare" }, workflows.map(item)),
  ];

  const draw = () => {
    for (const [link, page] of [[all, "home"], [told, "deliveries"]]) {
      if (place.page === page) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    filter.hidden = catalogue.workflows.length < MANY;
    if (!catalogue.loaded) return;
    const fits = (workflow) => `${workflow.title} ${workflow.kind}/${workflow.id}`.toLowerCase().includes(wanted);
    const fitting = catalogue.workflows.filter(fits);
    const kinds = Map.groupBy
      ? Map.groupBy(fitting.slice(0, MOST_SHOWN), (workflow) => workflow.kind)
      : grouped(fitting.slice(0, MOST_SHOWN));
    const more = fitting.length - MOST_SHOWN;
    fill(list, [...kinds].map(([kind, workflows]) => group(kind, workflows)),
      more > 0 ? element("p", { class: "quiet" }, `and ${count(more, "more workflow")}: filter to find them`) : null,
      fitting.length ? null : none());
  };

  const none = () => (wanted
    ? emptyState("No workflow fits", null, button("Clear the filter", () => { filter.value = wanted = ""; draw(); }))
    : emptyState("No workflows", "The application has none yet."));

  return (next) => {
    place = next ?? place;
    draw();
  };
}

function grouped(workflows) {
  const kinds = new Map();
  for (const workflow of workflows) {
    if (!kinds.has(workflow.kind)) kinds.set(workflow.kind, []);
    kinds.get(workflow.kind).push(workflow);
  }
  return kinds;
}
