// The panel as a whole: sign-in, the list of workflows at the side, and the page that the address names.

import * as api from "./api.js";
import { button, element, emptyState, endedState, errorState, fill, freshId } from "./dom.js";
import { deliveriesPage } from "./deliveries.js";
import { listen } from "./events.js";
import { workflowAddress, workflowName } from "./format.js";
import { history } from "./history.js";
import { closeDialogs, tellProblem } from "./messages.js";
import * as router from "./router.js";
import { runPage } from "./run.js";
import { sidebar } from "./sidebar.js";
import { forgetAll, mayLeave } from "./unsaved.js";
import { workflowPage } from "./workflow.js";

const root = document.getElementById("panel");

// Time for which a page waits for the stream before it reads its lists, in milliseconds.
const PATIENCE = 200;
// After a gap everything is read again, at most once in this time in milliseconds. Tabs and browsers do so at
// different moments.
const BETWEEN_RELOADS = 5_000;
const SPREAD = 1_000;
// When the user returns to the page, it is read again, at most once in this time in milliseconds.
const BETWEEN_LOOKS = 1_000;

function signIn(reason, remark = "The server says at its start where it keeps the admin token.") {
  document.title = "Sign in · Webhooks";
  closeDialogs();
  forgetAll();
  // Errors of this page are shown here.
  api.session.onEnd = () => {};
  const message = freshId("message");
  const input = element("input", { type: "password", id: freshId("token"), name: "token", required: true,
    autocomplete: "current-password", spellcheck: "false", "aria-describedby": message });
  const said = element("p", { class: "problem", id: message, role: "alert" }, reason);
  const enter = element("button", { class: "button primary", type: "submit" }, "Sign in");
  const form = element("form", { class: "sign-in", on: { submit: async (event) => {
    event.preventDefault();
    api.session.begin(input.value.trim());
    enter.disabled = true;
    try {
      await api.workflows();
      panel({ signedIn: true });
    } catch (error) {
      api.session.end();
      const problem = api.asProblem(error);
      fill(said, problem.status === 401 ? "This is not the admin token." : `${problem.title}. ${problem.detail}`);
      enter.disabled = false;
      input.select();
    }
  } } }, mark(), element("h1", {}, "Sign in"),
    element("p", { class: "quiet" }, remark),
    element("label", { for: input.id }, "Admin token"), input, said, enter);
  fill(root, element("main", { class: "centred" }, form));
  input.focus();
}

const states = { live: "Live", waiting: "Reconnecting", ended: "Signed out" };

const mark = () => element("img", { src: "panel/icon.svg", alt: "", width: 28, height: 28, class: "mark" });

function panel({ signedIn = false } = {}) {
  const stopped = [];
  const heard = new Set();
  const catalogue = { workflows: [], loaded: false };
  const connection = element("span", { class: "connection", role: "status" }, "Connecting");
  const notice = element("div", { class: "ended" });
  const side = element("nav", { class: "side", "aria-label": "Workflows" });
  const main = element("main", { id: "main", tabindex: "-1" });
  // The current page: how it is left, and how it is updated without a redraw, if it can be.
  let page = {};

  const live = listen((type, data) => {
    if (type === "reset") reloadSoon();
    else heard.forEach((hear) => hear(type, data));
  }, (state) => {
    connection.dataset.state = state;
    fill(connection, states[state]);
    if (state === "ended") tellEnd();
    if (state === "live") forgetEnd();
  });
  stopped.push(live.stop, router.onMove(() => move()));

  // The host signs in people, and a reload leads to its form. A dialog covers the page, so it has the notice as well.
  const tellEnd = () => {
    if (!notice.children.length) fill(notice, endedState());
    document.querySelectorAll("dialog[open]:not(:has(.ended))").forEach((dialog) => {
      dialog.querySelector(".dialog-head").after(element("div", { class: "ended" }, endedState()));
    });
  };
  // The user signed in again in another tab.
  const forgetEnd = () => {
    fill(notice);
    document.querySelectorAll("dialog .ended").forEach((one) => one.remove());
  };
  api.session.onEntry = forgetEnd;
  api.session.onEnd = api.needsToken() ? () => {
    leave();
    signIn("You were signed out: the admin token is no longer valid.");
  } : tellEnd;

  const leave = () => {
    stopped.forEach((stop) => stop());
    page.leave?.();
  };

  const out = async () => {
    if (!await mayLeave()) return;
    api.session.onEnd = () => {
      leave();
      signIn("", "You are signed out in this tab. Other tabs stay signed in.");
    };
    api.session.end();
  };

  const load = async () => {
    const all = [];
    let cursor;
    do {
      const page = await api.workflows(cursor);
      all.push(...page.items);
      cursor = page.next_cursor;
    } while (cursor);
    catalogue.workflows = all;
    catalogue.loaded = true;
    drawSide();
  };

  // One workflow with all its webhooks and nothing cut, for its own page and form.
  const refresh = async ({ kind, id }) => {
    const place = catalogue.workflows.findIndex((one) => one.kind === kind && one.id === id);
    try {
      const whole = await api.workflow({ kind, id });
      for (let cursor = whole.truncated ? whole.webhooks.at(-1)?.id : null; cursor;) {
        const page = await api.webhooks({ workflow: workflowName(whole), cursor });
        whole.webhooks.push(...page.items);
        cursor = page.next_cursor;
      }
      if (place < 0) catalogue.workflows.push(whole);
      else catalogue.workflows[place] = whole;
    } catch (error) {
      if (error.status !== 404) throw error;
      if (place >= 0) catalogue.workflows.splice(place, 1);
    }
    drawSide();
    return catalogue.workflows.find((one) => one.kind === kind && one.id === id);
  };

  const drawSide = sidebar(side, catalogue);

  const show = (moved) => {
    page.leave?.();
    forgetAll();
    const place = router.place(location.hash);
    const listens = (hear) => { heard.add(hear); return () => heard.delete(hear); };
    const world = { catalogue, listens, reload: load, readAgain: refresh, showAnew: () => show(false) };
    drawSide(place);
    root.dataset.page = place.page;
    page = pages[place.page](main, world, place) ?? {};
    router.arrived();
    // Directly after the sign-in, there is no page to leave.
    if (moved || signedIn) main.focus({ preventScroll: true });
    if (moved) scrollTo(0, 0);
    signedIn = false;
  };

  // No event reports that another user changed a webhook, so a workflow is read again when its page is opened. The
  // old page stays visible until the new one can be drawn; of two navigations the later one counts. A page that can be
  // updated is not redrawn, so the user's input is not lost.
  let moves = 0;
  const arrive = async (moved) => {
    moves += 1;
    const own = moves;
    try {
      const place = router.place(location.hash);
      const isKnown = () => catalogue.workflows.some((one) => one.kind === place.kind && one.id === place.id);
      if (!moved || (place.page === "workflow" && !isKnown())) await load();
      if (own !== moves) return;
      if (!moved && page.again) {
        await page.again();
        return;
      }
      if (place.page === "workflow" && isKnown()) await Promise.all([refresh(place), api.readBaseUrl()]);
      if (own === moves) show(moved);
    } catch (error) {
      const problem = api.asProblem(error);
      if (problem.status === 401 || own !== moves) return;
      if (!moved && page.again) tellProblem(problem);
      else fill(main, errorState(problem, reload));
    }
  };
  let departures = 0;
  const move = async () => {
    closeDialogs();
    departures += 1;
    const own = departures;
    const may = await mayLeave();
    // The user may navigate elsewhere instead of answering.
    if (own !== departures) return;
    if (may) await arrive(true);
    else router.stay();
  };
  const reload = () => {
    lastReload = Date.now();
    return arrive(false);
  };

  let lastReload = 0;
  let reloading = 0;
  const reloadSoon = () => {
    const pause = Math.max(0, lastReload + BETWEEN_RELOADS - Date.now()) + Math.random() * SPREAD;
    reloading ||= setTimeout(() => {
      reloading = 0;
      reload();
    }, pause);
  };
  stopped.push(() => clearTimeout(reloading));

  let lastLook = Date.now();
  const look = async () => {
    if (document.hidden || !page.seen || Date.now() - lastLook < BETWEEN_LOOKS) return;
    lastLook = Date.now();
    // A failed background read is not reported, since the page still shows the previous data.
    await page.seen().catch(() => {});
  };
  document.addEventListener("visibilitychange", look);
  addEventListener("focus", look);
  stopped.push(() => {
    document.removeEventListener("visibilitychange", look);
    removeEventListener("focus", look);
  });

  fill(root, element("a", { class: "skip", href: location.hash || "#/", on: { click: (event) => {
    event.preventDefault();
    main.focus();
  } } }, "Skip to the content"),
  element("header", { class: "top" }, element("a", { class: "brand", href: "#/" }, mark(), element("span", {}, "Webhooks")),
    element("span", { class: "grow" }), connection,
    api.needsToken() ? button("Sign out", out, { kind: "quiet" }) : null),
  notice,
  element("div", { class: "columns" }, side, main));
  fill(main, element("p", { class: "quiet loading" }, "Loading…"));
  // Events during the read of the lists are not missed if the stream is opened first. If that takes long, as in a
  // hidden tab, the lists are read at once and then again.
  let stands = false;
  live.ready.then(() => {
    stands = true;
    reload();
  });
  const early = setTimeout(() => { if (!stands) reload(); }, PATIENCE);
  stopped.push(() => clearTimeout(early));
}

const pages = {
  home(main, world, { filters }) {
    document.title = "Runs · Webhooks";
    const list = element("section", { "aria-label": "Runs" });
    fill(main, element("div", { class: "page-head" }, element("h1", {}, "All runs")), list);
    return history(list, world, { filters });
  },
  workflow(main, world, place) {
    const workflow = world.catalogue.workflows.find((one) => one.kind === place.kind && one.id === place.id);
    if (!workflow) return pages.missing(main);
    document.title = `${workflow.title} · Webhooks`;
    return workflowPage(main, world, workflow, place);
  },
  run(main, world, place) {
    const workflow = world.catalogue.workflows.find((one) => one.kind === place.kind && one.id === place.id);
    const title = workflow?.title ?? workflowName(place);
    document.title = `Run of ${title} · Webhooks`;
    return runPage(main, world, place.run, { title, address: workflowAddress(place) });
  },
  deliveries: deliveriesPage,
  missing(main) {
    document.title = "Not found · Webhooks";
    const home = element("a", { class: "button plain", href: "#/" }, "All runs");
    fill(main, element("h1", {}, "Not found"),
      emptyState("There is nothing at this address", "The workflow may have been renamed or removed.", home));
  },
};

if (api.needsToken() && !api.session.token) signIn("");
else panel();
