// A form for some settings of a webhook. Only changes are sent, and only if no other user changed it in the meantime.

import * as api from "./api.js";
import { button, element, errorState, fill, whileBusy } from "./dom.js";
import { canRead, showProblems } from "./fields.js";
import { tell, tellProblem } from "./messages.js";
import { note } from "./unsaved.js";

// `settingsOf(record)` is the part of a webhook that the form shows, as text. `parts(record)` makes the form: its
// `content`, its `fields()` and the `patch()` of what was changed. `changed` gets the webhook's new record.
//
// The editor says whether it `isChanged`, and takes a record that changed elsewhere: typed input stays, and saving it
// then reports that another user was faster.
export function editor(webhook, changed, { settingsOf, parts }) {
  const holder = element("div");
  let shown;
  let draft;
  const draw = (record) => {
    shown = { settings: settingsOf(record), revision: record.revision };
    draft = form(parts(record), {
      save: (patch) => api.changeWebhook(record.id, patch, shown.revision),
      saved(next) {
        draw(next);
        changed(next);
        holder.querySelector("button[type=submit]").focus();
      },
      async readAgain() {
        try {
          const next = await api.webhook(record.id);
          draw(next);
          changed(next);
          holder.querySelector("input, select").focus();
        } catch (error) {
          tellProblem(api.asProblem(error));
        }
      },
    });
    fill(holder, draft.element);
  };
  draw(webhook);
  const isChanged = () => draft.isChanged();
  return {
    element: holder,
    isChanged,
    fields: () => draft.fields(),
    update(record) {
      if (settingsOf(record) === shown.settings) shown.revision = record.revision;
      else if (!isChanged()) draw(record);
    },
    close: note(isChanged),
  };
}

function form({ content, fields, patch }, { save, saved, readAgain }) {
  const said = element("div");
  const submitter = element("button", { type: "submit", class: "button primary" }, "Save settings");
  const submit = () => whileBusy(submitter, async () => {
    if (!canRead(fields())) return;
    const changes = patch();
    if (Object.keys(changes).length === 0) {
      tell("Nothing was changed.");
      return;
    }
    try {
      saved(await save(changes));
      tell("The settings were saved.");
    } catch (error) {
      const problem = api.asProblem(error);
      if (showProblems(fields(), problem, said)) return;
      fill(said, problem.status === 412 ? stale(readAgain) : errorState(problem));
    }
  });
  const made = element("form", { class: "form", novalidate: true, on: { submit: (event) => {
    event.preventDefault();
    submit();
  } } }, content, said, element("div", { class: "row" }, submitter));
  // Buttons may come later, and hold nothing.
  const inputs = () => [...made.elements].filter((one) => one.matches("input, select, textarea"));
  const typed = () => JSON.stringify(inputs().map((one) => (one.type === "checkbox" ? one.checked : one.value)));
  const atFirst = typed();
  return { element: made, fields, isChanged: () => typed() !== atFirst };
}

export const group = (title, ...content) =>
  element("fieldset", { class: "group" }, element("legend", {}, title), content);

export const grid = (...fields) => element("div", { class: "grid" }, fields.map((one) => one.element));

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

// The merge patch (RFC 7396) from one to the other.
export function difference(before, after) {
  const patch = {};
  for (const [name, value] of Object.entries(after)) {
    if (JSON.stringify(before[name]) === JSON.stringify(value)) continue;
    patch[name] = isObject(value) && isObject(before[name]) ? difference(before[name], value) : value;
  }
  return patch;
}

function stale(readAgain) {
  return element("div", { class: "notice bad", role: "alert" },
    element("div", { class: "grow" }, element("strong", {}, "Another user changed this webhook."),
      element("p", {}, "Load its current settings, then make your change again.")), button("Load", readAgain));
}
