// Runs, newest first, a page at a time, kept up to date while they are visible.

import * as api from "./api.js";
import { button, element, emptyState, errorState, fill, keepingFocus, whileBusy } from "./dom.js";
import { duration, exactTime, isLive, runAddress, STATES, timeAgo, webhookName, workflowName } from "./format.js";
import { keepFilters } from "./router.js";

const PAGE = 50;
// Number of runs that are added as they arrive before the list restarts.
const MOST_BY_THEMSELVES = 500;
const TICK = 1_000;

export const stateMark = (state) =>
  element("span", { class: "state", "data-state": state }, STATES[state] ?? state);

// A bar for a running run. Without a known fraction it only shows that something happens.
export function progressBar(run) {
  const { fraction, message } = run.progress ?? {};
  return element("span", { class: "progress" },
    element("progress", { max: 1, value: fraction ?? null, "aria-label": "Progress" }),
    element("span", { class: "quiet" }, [fraction === undefined ? null : `${Math.round(fraction * 100)} %`, message]
      .filter(Boolean).join(" · ")));
}

export function history(container, world, { workflow, filters }) {
  const filter = {
    workflow: workflow ? workflowName(workflow) : filters.workflow,
    state: filters.state in STATES ? filters.state : undefined,
    webhook: workflow ? filters.webhook : undefined,
  };
  const rows = new Map();
  const list = element("ol", { class: "runs bare", "aria-label": "Runs" });
  const foot = element("div", { class: "foot" });
  const newest = element("p", { class: "off-screen", role: "status" });
  let cursor;
  let asked = 0;
  let arrived = 0;
  // Events that arrived while a page was requested, and that the page may not contain yet.
  let meanwhile = null;

  const title = (run) => world.catalogue.workflows
    .find((one) => one.kind === run.workflow.kind && one.id === run.workflow.id)?.title ?? workflowName(run.workflow);

  const webhookLabel = (run) => {
    const webhook = workflow?.webhooks.find((one) => one.id === run.webhook_id);
    return webhook?.label ?? (run.caller?.method === "GET" ? "by GET" : "");
  };

  const outcome = (run) => {
    if (run.state === "running") return progressBar(run);
    if (run.error) return element("span", { class: "run-error" }, run.error.message, run.error.truncated ? "…" : null);
    return element("span", {}, run.summary ?? "");
  };

  const draw = (row) => fill(row.link, stateMark(row.run.state),
    element("span", { class: "run-name" }, workflow ? webhookLabel(row.run) || "Run" : title(row.run)),
    element("time", { class: "run-time quiet", datetime: row.run.queued_at, title: exactTime(row.run.queued_at) },
      timeAgo(row.run.queued_at)),
    element("span", { class: "run-duration quiet" }, duration(row.run)),
    element("span", { class: "run-outcome" }, outcome(row.run)));

  const makeRow = (run) => {
    const link = element("a", { class: "run", href: runAddress(run) });
    const row = { run, link, item: element("li", { "data-run": run.id }, link) };
    rows.set(run.id, row);
    draw(row);
    return row;
  };

  const fits = (run) => (!filter.workflow || workflowName(run.workflow) === filter.workflow)
    && (!filter.state || run.state === filter.state) && (!filter.webhook || run.webhook_id === filter.webhook);

  const load = async (more) => {
    asked += 1;
    const own = asked;
    meanwhile = [];
    try {
      const page = await api.runs({ ...filter, limit: PAGE, cursor: more ? cursor : undefined });
      if (own !== asked) return;
      const since = meanwhile;
      meanwhile = null;
      keepingFocus(list, () => {
        if (!more) {
          arrived = 0;
          rows.clear();
          fill(list);
        }
        cursor = page.next_cursor;
        page.items.filter((run) => !rows.has(run.id)).forEach(insert);
        since.forEach(update);
      });
      drawFoot();
    } catch (error) {
      if (own !== asked) return;
      meanwhile = null;
      fill(foot, errorState(api.asProblem(error), () => load(more)));
    }
  };

  const drawFoot = () => {
    const older = button("Show older runs", () => whileBusy(older, () => load(true)));
    const filtered = filter.state || filter.webhook || (!workflow && filter.workflow);
    if (rows.size === 0) {
      fill(foot, filtered ? emptyState("No run fits the filter")
        : emptyState("No runs yet", "They appear here as soon as a webhook is called."));
    } else {
      fill(foot, cursor ? older : null);
    }
  };

  // Inserts a run at its place by id: ids may arrive out of order, and an old run may begin to match the filter.
  const insert = (run) => {
    const newer = [...list.children].findLast((item) => item.dataset.run > run.id);
    const { item } = makeRow(run);
    if (newer) newer.after(item);
    else list.prepend(item);
  };

  // Returns whether a run belongs between the visible ones, and not on a page that was not requested yet.
  const inRange = (run) => !cursor || (rows.size > 0 && run.id > list.lastChild.dataset.run);

  const update = (run) => {
    const row = rows.get(run.id);
    if (row && !fits(run)) {
      rows.delete(run.id);
      row.item.remove();
      drawFoot();
    } else if (row) {
      row.run = { ...row.run, ...run };
      draw(row);
    } else if (fits(run) && inRange(run)) {
      insert(run);
      fill(newest, `A new run: ${STATES[run.state]}`);
      bounded();
      drawFoot();
    }
  };

  // A list that is open for long shows the newest runs, not all that ever arrived.
  const bounded = () => {
    arrived += 1;
    if (arrived > MOST_BY_THEMSELVES) load(false);
  };

  const drawSoon = new Set();
  let frame = 0;
  const later = (row) => {
    drawSoon.add(row);
    frame ||= requestAnimationFrame(() => {
      frame = 0;
      drawSoon.forEach(draw);
      drawSoon.clear();
    });
  };

  const forget = world.listens((type, data) => {
    if (type === "run") {
      meanwhile?.push(data);
      update(data);
    }
    const row = type === "progress" ? rows.get(data.run_id) : null;
    if (row) {
      row.run.progress = data.progress;
      later(row);
    }
  });
  const clock = setInterval(() => rows.forEach((row) => { if (isLive(row.run.state)) later(row); }), TICK);

  const pick = (label, name) => element("select", { "aria-label": label, on: { change: (event) => {
    filter[name] = event.target.value || undefined;
    keepFilters({ ...filter, workflow: workflow ? undefined : filter.workflow });
    load(false);
  } } });
  const offer = (select, options, chosen = "") => {
    fill(select, options.map(([value, name]) => element("option", { value, selected: value === chosen }, name)));
    // A webhook or workflow that no longer exists may still have runs.
    if (select.value !== chosen) select.append(element("option", { value: chosen, selected: true }, "One that no longer exists"));
  };
  const states = pick("State", "state");
  offer(states, [["", "Any state"], ...Object.entries(STATES)], filter.state);
  const others = workflow ? pick("Webhook", "webhook") : pick("Workflow", "workflow");
  const offerOthers = () => (workflow
    ? offer(others, [["", "Any webhook"], ...workflow.webhooks.map((one) => [one.id, webhookName(one)])], filter.webhook)
    : offer(others, [["", "Any workflow"], ...world.catalogue.workflows.map((one) => [workflowName(one), one.title])],
      filter.workflow));
  offerOthers();

  fill(container, container.querySelector(".section-head"), element("div", { class: "filters" }, states, others),
    newest, list, foot);
  fill(foot, element("p", { class: "quiet loading" }, "Loading…"));
  load(false);
  return {
    offerOthers,
    again() {
      offerOthers();
      return load(false);
    },
    leave() {
      forget();
      clearInterval(clock);
      cancelAnimationFrame(frame);
      asked += 1;
    },
  };
}
