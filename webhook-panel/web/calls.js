// The calls of one webhook, refused ones included, as they come.

import * as api from "./api.js";
import { isUntrusted, untrusted } from "./client.js";
import { button, element, emptyState, errorState, fill, keepingFocus, whileBusy } from "./dom.js";
import { firstCall } from "./first-call.js";
import { count, exactTime, runAddress, size, timeAgo } from "./format.js";
import { tell, tellProblem } from "./messages.js";
import { openTestCall } from "./test-call.js";

export const OUTCOMES = { accepted: "Accepted", replayed: "Repeated", ignored: "Ignored", refused: "Refused",
  dry_run: "Dry run", handshake: "Handshake" };
// Time between two drawings of how long ago calls came, in milliseconds.
const TICK = 30_000;
// Calls from one address after which a proxy is suspected.
const SUSPICIOUS = 2;

export function callsView(webhook, workflow, watch) {
  const waiting = firstCall(webhook, watch);
  const test = button("Send a test call", () => openTestCall(webhook, workflow), { symbol: "play" });
  const warning = element("div", { role: "status" });
  const list = element("ul", { class: "bare calls", "aria-label": "Calls" });
  const foot = element("div", { class: "foot" });
  let client = null;

  const draw = () => {
    const items = watch.items();
    keepingFocus(list, () => fill(list, items?.map((call) => row(call, webhook))));
    fill(warning, proxyWarning(items ?? [], client));
    const older = button("Show older calls", () => whileBusy(older, () => watch.load({ more: true })));
    fill(foot, watch.problem() ? errorState(watch.problem(), () => watch.load())
      : items === null ? element("p", { class: "quiet loading" }, "Loading…")
      : items.length === 0 ? emptyState("No calls yet", "Every call at the URL appears here, also one that is refused.")
      : watch.hasMore() ? older : null);
  };
  const forget = watch.onChange(draw);
  const clock = setInterval(draw, TICK);
  api.client().then((seen) => { client = seen; draw(); }, () => {});
  return {
    element: element("div", { class: "setting-list" },
      element("div", { class: "row" }, waiting.element, element("span", { class: "grow" }), test), warning, list, foot),
    isChanged: () => false,
    update() {
      waiting.update();
      watch.again();
    },
    close() {
      clearInterval(clock);
      forget();
      waiting.close();
    },
  };
}

// A proxy that is not trusted hides who calls: all calls then come from its address, as the browser does.
function proxyWarning(items, client) {
  const addresses = new Set(items.map((call) => call.address).filter(Boolean));
  if (!client || addresses.size !== 1 || items.length < SUSPICIOUS || !addresses.has(client.connection)) return null;
  if (!isUntrusted(client)) return null;
  return element("div", { class: "setting-list" },
    element("p", {}, `All ${count(items.length, "call")} so far came from one proxy.`), untrusted(client));
}

function row(call, webhook) {
  const run = call.run_id
    ? element("a", { href: runAddress({ id: call.run_id, workflow: webhook.workflow }) }, "Run") : null;
  const isKept = call.replayable_until && Date.parse(call.replayable_until) > Date.now();
  const replay = isKept ? button("Replay", () => whileBusy(replay, async () => {
    try {
      const { warnings = [] } = await api.replayCall(webhook.id, call.id);
      tell(["The call was run again, with the present settings.", ...warnings.map((one) => one.message)].join(" "));
    } catch (error) {
      tellProblem(api.asProblem(error));
    }
  }), { symbol: "refresh", "aria-label": `Replay the call of ${exactTime(call.at)}` }) : null;
  const facts = [call.address, call.user_agent, call.content_type, call.body_bytes ? size(call.body_bytes) : null];
  return element("li", { class: "call", "data-call": call.id },
    element("span", { class: "state", "data-state": call.outcome }, OUTCOMES[call.outcome] ?? call.outcome),
    element("span", { class: "call-answer" }, element("code", {}, `${call.method} ${call.status}`),
      call.problem ? element("code", { class: "quiet" }, ` ${call.problem}`) : null),
    element("time", { class: "run-time quiet", datetime: call.at, title: exactTime(call.at) }, timeAgo(call.at)),
    call.detail ? element("p", { class: call.outcome === "refused" ? "problem" : "hint" }, call.detail) : null,
    element("p", { class: "hint" }, facts.filter(Boolean).join(" · ")),
    run || replay ? element("div", { class: "row" }, run, replay) : null);
}
