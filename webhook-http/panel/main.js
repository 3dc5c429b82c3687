// The panel as a whole: signing in, the list of workflows at the side, and the page that the address names.

import * as api from "./api.js";
import { button, element, emptyState, errorState, fill, freshId } from "./dom.js";
import { deliveriesPage } from "./deliveries.js";
import { listen } from "./events.js";
import { workflowAddress, workflowName } from "./format.js";
import { history } from "./history.js";
import * as router from "./router.js";
import { runPage } from "./run.js";
import { sidebar } from "./sidebar.js";
import { workflowPage } from "./workflow.js";

const root = document.getElementById("panel");

function signIn(reason) {
  document.title = "Sign in · Webhooks";
  // What goes wrong here is said here.
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
      panel();
    } catch (error) {
      api.session.end();
      const problem = api.asProblem(error);
      fill(said, problem.status === 401 ? "This is not the admin token." : `${problem.title}. ${problem.detail}`);
      enter.disabled = false;
      input.select();
    }
  } } }, mark(), element("h1", {}, "Sign in"),
    element("p", { class: "quiet" }, "The server says at its start where it keeps the admin token."),
    element("label", { for: input.id }, "Admin token"), input, said, enter);
  fill(root, element("main", { class: "centred" }, form));
  input.focus();
}

const mark = () => element("img", { src: "panel/icon.svg", alt: "", width: 28, height: 28, class: "mark" });

function panel() {
  const stopped = [];
  const heard = new Set();
  const catalogue = { workflows: [], loaded: false };
  const connection = element("span", { class: "connection", role: "status" }, "Connecting");
  const side = element("nav", { class: "side", "aria-label": "Workflows" });
  const main = element("main", { id: "main", tabindex: "-1" });
  let leavePage = () => {};

  const live = listen((type, data) => {
    if (type === "reset") reload();
    else heard.forEach((hear) => hear(type, data));
  }, (state) => {
    connection.dataset.state = state;
    fill(connection, state === "live" ? "Live" : "Reconnecting");
  });
  stopped.push(live.stop, router.onMove(() => move()));

  api.session.onEnd = () => {
    stopped.forEach((stop) => stop());
    leavePage();
    signIn("You were signed out: the admin token is no longer right.");
  };

  const out = () => {
    api.session.onEnd = () => {
      stopped.forEach((stop) => stop());
      leavePage();
      signIn("");
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

  const drawSide = sidebar(side, catalogue);

  const show = (moved) => {
    leavePage();
    const place = router.place(location.hash);
    const listens = (hear) => { heard.add(hear); return () => heard.delete(hear); };
    const world = { catalogue, listens, reload: load };
    drawSide(place);
    root.dataset.page = place.page;
    leavePage = pages[place.page](main, world, place) ?? (() => {});
    if (moved) main.focus({ preventScroll: true });
    if (moved) scrollTo(0, 0);
  };

  // No event tells that somebody else changed a webhook, so a workflow is read again when it is gone to. The page
  // that was left stays in view until the new one can be drawn; of two moves the later counts.
  let moves = 0;
  const arrive = async (moved) => {
    moves += 1;
    const own = moves;
    try {
      if (!moved || router.place(location.hash).page === "workflow") await load();
      if (own === moves) show(moved);
    } catch (error) {
      const problem = api.asProblem(error);
      if (problem.status !== 401 && own === moves) fill(main, errorState(problem, reload));
    }
  };
  const move = () => arrive(true);
  const reload = () => arrive(false);

  fill(root, element("a", { class: "skip", href: location.hash || "#/", on: { click: (event) => {
    event.preventDefault();
    main.focus();
  } } }, "Skip to the content"),
  element("header", { class: "top" }, element("a", { class: "brand", href: "#/" }, mark(), "Webhooks"),
    element("span", { class: "grow" }), connection,
    api.needsToken() ? button("Sign out", out, { kind: "quiet" }) : null),
  element("div", { class: "columns" }, side, main));
  fill(main, element("p", { class: "quiet loading" }, "Loading…"));
  // What happens while the lists are read is not missed when the stream stands first.
  Promise.race([live.ready, new Promise((resolve) => { setTimeout(resolve, 1_000); })]).then(reload);
}

const pages = {
  home(main, world) {
    document.title = "Runs · Webhooks";
    const list = element("section", { "aria-label": "Runs" });
    fill(main, element("div", { class: "page-head" }, element("h1", {}, "All runs")), list);
    return history(list, world, {});
  },
  workflow(main, world, place) {
    const workflow = world.catalogue.workflows.find((one) => one.kind === place.kind && one.id === place.id);
    if (!workflow) return pages.missing(main);
    document.title = `${workflow.title} · Webhooks`;
    return workflowPage(main, world, workflow);
  },
  run(main, world, place) {
    const workflow = world.catalogue.workflows.find((one) => one.kind === place.kind && one.id === place.id);
    const title = workflow?.title ?? workflowName(place);
    document.title = `Run of ${title} · Webhooks`;
    return runPage(main, world, place.run, { title, address: workflowAddress(place) });
  },
  deliveries: (main) => deliveriesPage(main),
  missing(main) {
    document.title = "Not found · Webhooks";
    const home = element("a", { class: "button plain", href: "#/" }, "All runs");
    fill(main, element("h1", {}, "Not found"),
      emptyState("There is nothing at this address", "The workflow may have been renamed or removed.", home));
  },
};

if (api.needsToken() && !api.session.token) signIn("");
else panel();
