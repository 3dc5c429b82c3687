// Notifications of all runs, newest first, by state and channel; and resending of those that were given up.

import * as api from "./api.js";
import { button, element, emptyState, errorState, fill, keepingFocus, whileBusy } from "./dom.js";
import { channelName, CHANNELS, count, DELIVERY_STATES, exactTime, runAddress, timeAgo, timeOfId, workflowName } from "./format.js";
import { ask, tell, tellProblem } from "./messages.js";
import { follow } from "./outbox.js";
import * as router from "./router.js";

const PAGE = 50;
// Number of rows that are added as they arrive before the list restarts.
const MOST_BY_THEMSELVES = 500;
// A page of the server may be short although more follow. This is the number of further requests before the user is
// asked.
const MOST_ASKED = 20;
const OUTCOMES = { success: "the run succeeded", failure: "the run failed" };

// The default filter shows the notifications that may have to be sent again.
const ANY = "any";
const FIRST_STATE = "given_up";

export function deliveriesPage(container, world, { filters }) {
  document.title = "Notifications · Webhooks";
  const state = filters.state ?? FIRST_STATE;
  const filter = { state: state in DELIVERY_STATES ? state : undefined,
    channel: filters.channel || undefined };
  const rows = new Map();
  const list = element("ol", { class: "bare deliveries", "aria-label": "Notifications" });
  const foot = element("div", { class: "foot" });
  let cursor;
  let asked = 0;
  let arrived = 0;

  const resend = async (delivery) => {
    try {
      update(await api.resend(delivery.id));
      tell(`The notification to ${delivery.recipient} is queued.`);
    } catch (error) {
      tellProblem(api.asProblem(error));
    }
  };

  const title = (workflow) => world.catalogue.workflows
    .find((one) => one.kind === workflow.kind && one.id === workflow.id)?.title ?? workflowName(workflow);

  const draw = ({ delivery, item }) => keepingFocus(item, () => {
    const again = button("Resend", () => whileBusy(again, () => resend(delivery)), { label: `Resend to ${delivery.recipient}` });
    const { workflow } = delivery;
    const when = timeOfId(delivery.id);
    fill(item, element("div", { class: "delivery-head" },
      element("span", { class: "state", "data-state": delivery.state }, DELIVERY_STATES[delivery.state]),
      element("strong", { class: "wrap" }, delivery.recipient),
      element("div", { class: "row" },
        workflow ? element("a", { class: "button quiet", href: runAddress({ id: delivery.run_id, workflow }) }, "Open the run") : null,
        delivery.state === "given_up" ? again : null)),
    element("p", { class: "quiet" }, [workflow ? title(workflow) : null, OUTCOMES[delivery.event] ?? delivery.event,
      channelName(delivery.channel), count(delivery.attempts, "attempt")].filter(Boolean).join(" · "), " · ",
    element("time", { datetime: when, title: timeAgo(when) }, exactTime(when))),
    delivery.last_error ? element("p", { class: "problem wrap" }, delivery.last_error) : null,
    delivery.state === "pending" && delivery.next_at && delivery.attempts
      ? element("p", { class: "quiet" }, `next try ${timeAgo(delivery.next_at)}`) : null);
  });

  // Inserts a notification at its place by id, since two ends of runs may arrive in either order.
  const insert = (delivery) => {
    const newer = [...list.children].findLast((item) => item.dataset.delivery > delivery.id);
    const row = { delivery, item: element("li", { class: "card delivery", "data-delivery": delivery.id }) };
    rows.set(delivery.id, row);
    draw(row);
    if (newer) newer.after(row.item);
    else list.prepend(row.item);
  };

  const fits = (delivery) => (!filter.state || delivery.state === filter.state)
    && (!filter.channel || delivery.channel === filter.channel);
  const inRange = (delivery) => !cursor || (rows.size > 0 && delivery.id > list.lastChild.dataset.delivery);

  // A visible notification stays visible with its new state, so that the outcome can be seen.
  const update = (delivery) => {
    const row = rows.get(delivery.id);
    if (row) {
      row.delivery = { ...row.delivery, ...delivery };
      draw(row);
    } else if (fits(delivery) && inRange(delivery)) {
      insert(delivery);
      drawFoot();
      arrived += 1;
      if (arrived > MOST_BY_THEMSELVES) load(false);
    }
    outbox.watch([row?.delivery ?? delivery]);
  };
  const outbox = follow(update);

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
      keepingFocus(list, () => {
        if (!more) {
          arrived = 0;
          rows.clear();
          fill(list);
        }
        items.filter((delivery) => !rows.has(delivery.id)).forEach(insert);
      });
      outbox.watch(items);
      drawFoot();
    } catch (error) {
      if (own === asked) fill(foot, errorState(api.asProblem(error), () => load(more)));
    }
  };

  const drawFoot = () => keepingFocus(foot, () => {
    const older = button("Show older notifications", () => whileBusy(older, () => load(true)));
    const everything = button("Show all", () => { states.value = channels.value = ""; refilter(); });
    if (cursor) fill(foot, older);
    else if (rows.size) fill(foot);
    else if (filter.state || filter.channel) fill(foot, emptyState("No notification fits the filter", null, everything));
    else fill(foot, emptyState("No notifications yet", "The settings of each webhook name the recipients."));
    const wasFocused = document.activeElement === all;
    all.hidden = filter.state !== "given_up" || rows.size === 0;
    if (all.hidden && wasFocused) states.focus();
  });

  // Acts on all that match, page by page. Returns how many `act` counted, and whether there may be more.
  const forAll = async (dryRun, countOf) => {
    let [total, next] = [0, undefined];
    for (let pages = 0; pages === 0 || (next && (!dryRun || pages < MOST_ASKED)); pages += 1) {
      const page = await api.resendAll({ state: filter.state, channel: filter.channel }, next, dryRun);
      total += countOf(page);
      next = page.next_cursor;
    }
    return { total, more: Boolean(next) };
  };

  const resendAll = async () => {
    try {
      const found = await forAll(true, (page) => page.matched);
      const through = filter.channel ? ` through ${channelName(filter.channel)}` : "";
      const many = found.more ? "all that were given up" : count(found.total, "notification");
      const agreed = await ask(`Send ${many} again?`,
        `Each${through} that was given up goes out once more.`, "Resend all");
      if (!agreed) return;
      const inView = [...rows.values()].map(({ delivery }) => delivery).filter(fits);
      const { total } = await forAll(false, (page) => page.done);
      // One that fails again becomes visible again.
      outbox.watch(inView.map((delivery) => ({ ...delivery, state: "pending" })));
      tell(`${count(total, "notification")} ${total === 1 ? "is" : "are"} queued.`);
    } catch (error) {
      tellProblem(api.asProblem(error));
    }
    await load(false);
  };
  const all = button("Resend all", () => whileBusy(all, resendAll), { kind: "primary", hidden: true });

  const refilter = () => {
    filter.state = states.value || undefined;
    filter.channel = channels.value || undefined;
    router.keepFilters({ state: filter.state === FIRST_STATE ? "" : filter.state ?? ANY, channel: filter.channel });
    load(false);
  };
  const pick = (label, options, chosen) => element("select", { "aria-label": label, on: { change: refilter } },
    options.map(([value, name]) => element("option", { value, selected: value === (chosen ?? "") }, name)));
  const states = pick("State", [["", "Any state"], ...Object.entries(DELIVERY_STATES)], filter.state);
  const channels = pick("Channel", [["", "Any channel"], ...Object.entries(CHANNELS)], filter.channel);
  const offer = (channel) => {
    if ([...channels.options].some((option) => option.value === channel)) return;
    channels.append(element("option", { value: channel, selected: channel === filter.channel }, channelName(channel)));
  };
  if (filter.channel) offer(filter.channel);
  // Without the list, the filter has the channels of every server.
  api.channels().then((items) => items.forEach(({ channel }) => offer(channel)), () => {});

  // The event of a run's end carries its notifications.
  const forget = world.listens((type, data) => {
    if (type !== "run") return;
    data.deliveries?.forEach((delivery) => update({ ...delivery, workflow: data.workflow }));
  });

  fill(container, element("div", { class: "page-head" }, element("h1", { class: "grow" }, "Notifications"), all),
    element("div", { class: "filters" }, states, channels), list, foot);
  fill(foot, element("p", { class: "quiet loading" }, "Loading…"));
  load(false);
  return {
    again: () => load(false),
    leave() {
      forget();
      outbox.stop();
      asked += 1;
    },
  };
}
