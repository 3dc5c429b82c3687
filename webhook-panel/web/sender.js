// The sender of a webhook's calls: a recipe, its secrets, its settings, and a preview of a sample.

import * as api from "./api.js";
import { element, errorState, fill, freshId } from "./dom.js";
import { firstCall } from "./first-call.js";
import { pointersInto } from "./pointers.js";
import { previewView } from "./preview.js";
import { recipeView } from "./recipe-view.js";
import { secretList } from "./secrets.js";
import { senderForm } from "./sender-form.js";

// `changed` gets the webhook's new record, and `watch` has its calls. The view says whether its form `isChanged`, and takes a record that changed
// elsewhere.
export function senderView(webhook, workflow, changed, watch) {
  const holder = element("div", { class: "sender" }, element("p", { class: "quiet loading" }, "Loading…"));
  const waiting = firstCall(webhook, watch);
  const pointers = element("datalist", { id: freshId("pointers") });
  const suggest = (sample) => fill(pointers, pointersInto(sample).map(([pointer, value]) =>
    element("option", { value: pointer, label: value })));
  let form = null;
  let secrets = null;
  let isClosed = false;

  const draw = ([presets, recipes]) => {
    const needsSecret = () => {
      const { verification } = webhook;
      return verification !== null && (presets.find((one) => one.preset === verification.preset)?.needs_secret ?? true);
    };
    secrets = secretList(webhook, needsSecret);
    form = senderForm(webhook, workflow, { presets, pointers: pointers.id }, (record) => {
      changed(record);
      secrets.draw();
    });
    const preview = previewView(webhook, {
      pasted: suggest,
      isChanged: () => form.isChanged(),
      mark: (problems) => form.fields().forEach((field) => {
        const own = problems.filter((problem) => problem.field === field.name);
        field.problem(own.map((problem) => problem.message).join(" "));
      }),
    });
    const recipe = recipeView(webhook, recipes, secrets, {
      used: (record) => {
        changed(record);
        form.update(record);
        secrets.draw();
      },
      chosen(one) {
        preview.offer(one);
        if (one) suggest(one.sample);
      },
      waiting: waiting.element,
    });
    recipe.show();
    fill(holder, section("Set up a sender", recipe.element), section("Secrets", secrets.element),
      section("Settings for the sender", form.element), section("Preview", preview.element),
      pointers);
  };
  const load = () => Promise.all([api.presets(), api.recipes()]).then((known) => {
    if (!isClosed) draw(known);
  }, (error) => fill(holder, errorState(api.asProblem(error), load)));
  load();

  return {
    element: holder,
    isChanged: () => form?.isChanged() ?? false,
    update(record) {
      form?.update(record);
      secrets?.draw();
      waiting.update();
    },
    close() {
      isClosed = true;
      waiting.close();
      form?.close();
    },
  };
}

function section(title, content) {
  const heading = freshId("heading");
  return element("section", { "aria-labelledby": heading }, element("h3", { id: heading }, title), content);
}
