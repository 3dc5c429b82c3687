// One run: its state, parameters, log, artifacts and notifications.

import * as api from "./api.js";
import { canShow, openArtifact, saveArtifact } from "./artifact.js";
import { button, element, errorState, fill, keepingFocus, whileBusy } from "./dom.js";
import { channelName, count, DELIVERY_STATES, duration, exactTime, isLive, runAddress, shown, size, timeAgo } from "./format.js";
import { progressBar, stateMark } from "./history.js";
import { cut, logView } from "./log.js";
import { tell, tellProblem } from "./messages.js";
import { follow } from "./outbox.js";
import { go } from "./router.js";

const TICK = 100;

export function runPage(main, world, id, { title, address }) {
  const head = element("div", { class: "run-head" });
  const facts = element("div");
  const log = logView(id);
  const last = element("div");
  let run = null;
  let gone = false;
  let asking = 0;
  const took = element("span", { class: "took" });

  const load = async () => {
    asking += 1;
    const own = asking;
    try {
      const found = await api.run(id);
      if (gone || own !== asking) return;
      run = found;
      draw();
      log.element.hidden = false;
      log.refresh();
      outbox.watch(run.deliveries);
    } catch (error) {
      const problem = api.asProblem(error);
      if (gone || own !== asking || problem.status === 401) return;
      fill(head, errorState(problem, problem.status === 404 ? null : load));
    }
  };

  const told = (delivery) => {
    if (gone || !run) return;
    run.deliveries = run.deliveries.map((one) => (one.id === delivery.id ? delivery : one));
    drawLast();
    outbox.watch([delivery]);
  };
  const outbox = follow(told);

  const stop = button("Cancel run", () => whileBusy(stop, () => guarded(async () => {
    const state = (await api.cancelRun(id)).state;
    tell(isLive(state) ? "The run was told to stop." : "The run was cancelled.");
    await load();
  })));
  const again = button("Retry", () => whileBusy(again, () => guarded(async () => {
    const started = await api.retryRun(id);
    tell("A new run was started with the same parameters.");
    go(runAddress({ id: started.run_id, workflow: run.workflow }));
  })), { symbol: "refresh" });

  const draw = () => {
    const stopped = document.activeElement === stop && !isLive(run.state);
    stop.hidden = !isLive(run.state);
    again.hidden = isLive(run.state);
    if (stopped) again.focus();
    fill(took, duration(run));
    fill(head, element("div", { class: "row" }, stateMark(run.state), took,
      run.attempt > 1 || run.max_attempts > 1
        ? element("span", { class: "quiet" }, `attempt ${run.attempt} of ${run.max_attempts}`) : null,
      run.interruptions ? element("span", { class: "quiet" }, count(run.interruptions, "interruption")) : null,
      run.worker ? element("span", { class: "quiet" }, `on ${run.worker}`) : null),
    run.state === "running" ? progressBar(run) : null,
    run.summary ? element("p", { class: "summary" }, run.summary) : null,
    run.error ? element("div", { class: "notice bad" }, element("div", {}, element("strong", {}, errorTitle(run.error.kind)),
      element("p", { class: "wrap" }, run.error.message))) : null);
    keepingFocus(facts, () => fill(facts, parameters(run), artifacts(run)));
    drawLast();
  };
  const drawLast = () => keepingFocus(last, () => fill(last, deliveries(run, told), origin(run)));

  fill(main,
    element("p", {}, element("a", { class: "back", href: address }, title)),
    element("div", { class: "page-head" }, element("div", { class: "grow" }, element("h1", {}, "Run"),
      element("code", { class: "quiet" }, id)), stop, again),
    head, facts, log.element, last);
  // The page of an unknown run shows nothing of it.
  stop.hidden = again.hidden = log.element.hidden = true;

  const forget = world.listens((type, data) => {
    if (type === "run" && data.id === id) load();
    if (type === "progress" && data.run_id === id && run) {
      run.progress = data.progress;
      head.querySelector(".progress")?.replaceWith(progressBar(run));
    }
    if (type === "log" && data.run_id === id && run) log.refresh();
  });
  const clock = setInterval(() => { if (run?.state === "running") fill(took, duration(run)); }, TICK);
  load();
  return {
    again: load,
    leave() {
      gone = true;
      forget();
      log.stop();
      outbox.stop();
      clearInterval(clock);
    },
  };
}

const errorTitle = (kind) => ({ retryable: "The workflow failed", fatal: "The workflow failed", panicked: "The workflow crashed",
  timed_out: "The run took too long", interrupted: "The run was interrupted too often",
  superseded: "A newer run took its place" })[kind] ?? kind;

const section = (title, ...content) => {
  const heading = element("h2", {}, title);
  return element("section", {}, element("div", { class: "section-head" }, heading), content);
};

const table = (label, titles, rows) => element("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": label },
  element("table", {}, element("thead", {}, element("tr", {}, titles.map((title) => element("th", { scope: "col" }, title)))),
    element("tbody", {}, rows)));

export const SOURCES = { default: "default", query: "query", body: "body", mapping: "mapping", fixed: "fixed" };

function parameters(run) {
  const entries = Object.entries(run.parameters);
  if (!entries.length) return null;
  return section("Parameters", table("Parameters", ["Name", "Value", "From"], entries.map(([name, { value, source }]) =>
    element("tr", {}, element("th", { scope: "row" }, element("code", {}, name)),
      element("td", {}, value === "" ? element("span", { class: "quiet" }, "empty text")
        : element("code", { class: "wrap value" }, cut(shown(value)))),
      element("td", { class: "quiet" }, SOURCES[source] ?? source)))));
}

function artifacts(run) {
  if (!run.artifacts.length) return null;
  const row = (artifact) => {
    const open = button("Open", () => whileBusy(open, () => guarded(() => openArtifact(run.id, artifact))),
      { "aria-label": `Open ${artifact.name}` });
    const save = button("Download", () => whileBusy(save, () => guarded(() => saveArtifact(run.id, artifact))),
      { symbol: "download", "aria-label": `Download ${artifact.name}` });
    return element("li", { class: "artifact" }, element("span", { class: "grow wrap" }, artifact.name,
      element("span", { class: "quiet" }, ` ${artifact.content_type.split(";")[0]} · ${size(artifact.size)}`)),
    canShow(artifact) ? open : null, save);
  };
  return section("Artifacts", element("ul", { class: "bare boxed" }, run.artifacts.map(row)));
}

function deliveries(run, changed) {
  if (!run.deliveries.length) return null;
  const row = (delivery) => {
    const resend = button("Resend", () => whileBusy(resend, () => guarded(async () => {
      changed(await api.resend(delivery.id));
      tell(`The notification to ${delivery.recipient} is queued.`);
    })), { "aria-label": `Resend to ${delivery.recipient}` });
    return element("tr", {},
      element("th", { scope: "row", class: "wrap" }, delivery.recipient, element("span", { class: "quiet" }, ` ${channelName(delivery.channel)}`)),
      element("td", {}, element("span", { class: "state", "data-state": delivery.state }, DELIVERY_STATES[delivery.state]),
        element("span", { class: "quiet" }, ` ${count(delivery.attempts, "attempt")}`),
        delivery.last_error ? element("p", { class: "problem wrap" }, delivery.last_error) : null,
        delivery.state === "pending" && delivery.next_at && delivery.attempts
          ? element("p", { class: "quiet" }, `next try ${timeAgo(delivery.next_at)}`) : null),
      element("td", {}, delivery.state === "pending" && !delivery.attempts ? null : resend));
  };
  return section("Notifications", table("Notifications", ["To", "State", ""], run.deliveries.map(row)));
}

// A caller has the webhook's token, of which the record keeps a hint. A user of the management API has none.
const isByHand = (run) => Boolean(run.caller?.method) && !run.caller.token_hint;

function origin(run) {
  const fact = (name, value) => (value ? [element("dt", {}, name), element("dd", { class: "wrap" }, value)] : null);
  const caller = run.caller ?? {};
  const from = run.retried_from
    ? element("a", { href: runAddress({ id: run.retried_from, workflow: run.workflow }) }, run.retried_from) : null;
  return section("Details", element("dl", { class: "facts" },
    fact("Queued", exactTime(run.queued_at)), fact("Started", run.started_at && exactTime(run.started_at)),
    fact("Finished", run.finished_at && exactTime(run.finished_at)), fact("Retry of", from),
    isByHand(run)
      ? fact("Started by", `The panel or the management API${caller.address ? `, from ${caller.address}` : ""}`)
      : fact("Called by", [caller.method, caller.address].filter(Boolean).join(" from ")),
    fact("Token", caller.token_hint && `…${caller.token_hint}`), fact("User agent", caller.user_agent),
    fact("Request id", caller.request_id)));
}

async function guarded(act) {
  try {
    await act();
  } catch (error) {
    tellProblem(api.asProblem(error));
  }
}
