// Notifications of all runs, newest first, by state and channel; and sending again what was given up.

import * as api from "./api.js";
import { button, element, emptyState, errorState, fill, whileBusy } from "./dom.js";
import { count, DELIVERY_STATES, runAddress, timeAgo } from "./format.js";
import { ask, tell, tellProblem } from "./messages.js";
import * as router from "./router.js";

const PAGE = 50;
// A page of the server may be short although more follow. How often it is asked before people are.
const MOST_ASKED = 20;
const CHANNELS = { email: "Email", slack: "Slack" };

export function deliveriesPage(container) {
  document.title = "Notifications · Webhooks";
  const filter = { state: "given_up", channel: undefined };
  const list = element("ol", { class: "bare deliveries", "aria-label": "Notifications" });
  const foot = element("div", { class: "foot" });
  const act = element("div", { class: "row" });
  let cursor;
  let asked = 0;

  const openRun = async (delivery) => {
    try {
      router.go(runAddress(await api.run(delivery.run_id)));
    } catch (error) {
      tellProblem(api.asProblem(error));
    }
  };

  const resend = async (delivery, item) => {
    try {
      item.replaceWith(row(await api.resend(delivery.id)));
      tell(`The notification to ${delivery.recipient} is sent again.`);
    } catch (error) {
      tellProblem(api.asProblem(error));
    }
  };

  const row = (delivery) => {
    const open = button("Open the run", () => whileBusy(open, () => openRun(delivery)), { kind: "quiet" });
    const again = button("Resend", () => whileBusy(again, () => resend(delivery, item)),
      { label: `Resend to ${delivery.recipient}` });
    const item = element("li", { class: "card", "data-delivery": delivery.id },
      element("div", { class: "row" },
        element("span", { class: "state", "data-state": delivery.state }, DELIVERY_STATES[delivery.state]),
        element("strong", { class: "wrap grow" }, delivery.recipient),
        element("span", { class: "quiet" }, `${CHANNELS[delivery.channel] ?? delivery.channel}, `
          + `${count(delivery.attempts, "attempt")}`),
        open, delivery.state === "given_up" ? again : null),
      delivery.last_error ? element("p", { class: "problem wrap" }, delivery.last_error) : null,
      delivery.state === "pending" && delivery.next_at
        ? element("p", { class: "quiet" }, `next try ${timeAgo(delivery.next_at)}`) : null);
    return item;
  };

  const load = async (more) => {
    asked += 1;
    const own = asked;
    const items = [];
    try {
      let next = more ? cursor : undefined;
      for (let pages = 0; items.length < PAGE && pages < MOST_ASKED; pages += 1) {
        const page = await api.deliveries({ ...filter, limit: PAGE, cursor: next });
        if (own !== asked) return;
        items.push(...page.items);
        next = page.next_cursor;
        if (!next) break;
      }
      cursor = next;
      if (!more) fill(list);
      list.append(...items.map(row));
      drawFoot();
    } catch (error) {
      if (own === asked) fill(foot, errorState(api.asProblem(error), () => load(more)));
    }
  };

  const drawFoot = () => {
    const older = button("Show older notifications", () => whileBusy(older, () => load(true)));
    if (cursor) fill(foot, older);
    else if (list.children.length) fill(foot);
    else fill(foot, emptyState("No notification fits the filter"));
    const all = button("Resend all", () => whileBusy(all, resendAll), { kind: "primary" });
    fill(act, filter.state === "given_up" && list.children.length ? all : null);
  };

  const resendAll = async () => {
    const through = filter.channel ? ` through ${CHANNELS[filter.channel]}` : "";
    const agreed = await ask("Send all of them again?",
      `Every notification${through} that was given up goes out once more.`, "Resend all");
    if (!agreed) return;
    let done = 0;
    try {
      let next;
      do {
        const resent = await api.resendAll({ state: filter.state, channel: filter.channel }, next);
        done += resent.done;
        next = resent.next_cursor;
      } while (next);
      tell(`${count(done, "notification")} ${done === 1 ? "is" : "are"} sent again.`);
    } catch (error) {
      tellProblem(api.asProblem(error));
    }
    await load(false);
  };

  const pick = (label, options, chosen, change) => element("select", { "aria-label": label,
    on: { change: (event) => { change(event.target.value || undefined); load(false); } } },
  options.map(([value, name]) => element("option", { value, selected: value === chosen }, name)));
  const states = pick("State", [["", "Any state"], ...Object.entries(DELIVERY_STATES)], filter.state,
    (value) => { filter.state = value; });
  const channels = pick("Channel", [["", "Any channel"], ...Object.entries(CHANNELS)], "",
    (value) => { filter.channel = value; });

  fill(container, element("div", { class: "page-head" }, element("h1", {}, "Notifications"), act),
    element("div", { class: "filters" }, states, channels), list, foot);
  fill(foot, element("p", { class: "quiet loading" }, "Loading…"));
  load(false);
  return () => { asked += 1; };
}
