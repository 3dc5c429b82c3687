// Recipes: how to set up one sender, step by step, in the words of the sender's own pages.

import * as api from "./api.js";
import { copy } from "./clipboard.js";
import { button, element, fill, whileBusy } from "./dom.js";
import { choice } from "./fields.js";
import { maskedUrl } from "./format.js";
import { ask, tell, tellProblem } from "./messages.js";
import { SENDER_SETTINGS } from "./sender-form.js";
import { isUnsaved } from "./unsaved.js";

// Settings that a recipe does not touch: they are the owner's choice for any sender.
const KEPT = ["allowed_networks", "keep_bodies_s"];

// The choice of a recipe with its steps. `used(record)` gets the webhook's new record, `chosen(recipe)` the recipe that
// is shown, and `waiting` is the element that says whether calls have come.
export function recipeView(webhook, recipes, secrets, { used, chosen, waiting }) {
  const preset = webhook.verification?.preset;
  const pick = choice("recipe", "Sender", [["", "Choose a sender"], ...recipes.map((one) => [one.name, one.title])], "",
    "For another sender, choose below how its calls are verified.");
  const steps = element("div", { class: "recipe" });
  const show = () => {
    const recipe = recipes.find((one) => one.name === pick.read());
    chosen(recipe);
    fill(steps, recipe ? recipeSteps(webhook, recipe, secrets, used, waiting) : null);
  };
  pick.input.addEventListener("change", show);
  const own = recipes.find((one) => preset && one.preset === preset);
  if (own) pick.input.value = own.name;
  const holder = element("div", { class: "setting-list" }, pick.element, steps);
  return { element: holder, show };
}

function recipeSteps(webhook, recipe, secrets, used, waiting) {
  const take = button("Use these settings", () => whileBusy(take, async () => {
    if (isUnsaved()) {
      tell("There are unsaved changes. Save them first, or reload the page.", true);
      return;
    }
    if (isSet(webhook) && !await ask(`Use the settings for ${recipe.title}?`,
      "They replace the present settings for the sender. Its secrets and the allowed networks stay.", "Use them")) return;
    const patch = Object.fromEntries(SENDER_SETTINGS.filter((name) => !KEPT.includes(name)).map((name) => [name, null]));
    try {
      used(await api.changeWebhook(webhook.id, { ...patch, ...recipe.settings }, webhook.revision));
      tell(`The settings for ${recipe.title} were saved.`);
    } catch (error) {
      tellProblem(api.asProblem(error));
    }
  }), { kind: "primary" });
  const generate = button("Generate the secret", () => secrets.generate(generate));
  const enter = button("Enter the secret", secrets.enter);
  const secret = {
    webhook: [step("Generate the secret. It is shown this once, so enter it at the sender at once.", generate)],
    sender: [],
    none: [],
  }[recipe.secret];
  const afterwards = recipe.secret === "sender"
    ? [step("Enter here the secret that the sender shows.", enter)] : [];
  const list = (title, facts) => element("div", {}, element("h4", {}, title),
    element("ul", {}, facts.map((fact) => element("li", {}, fact))));
  return [
    element("p", {}, recipe.starts),
    element("div", { class: "facts-pair" }, list("Verified", recipe.verified), list("Not verified", recipe.not_verified)),
    element("ol", { class: "steps" },
      step("Save the settings for this sender. They fit the workflow daily-sales; change the mapping below for another.", take),
      secret,
      recipe.steps.map((one) => step(one.text, fields(one, webhook, recipe), code(one, webhook))),
      afterwards,
      step("Wait for the first call.", waiting)),
  ];
}

const isSet = (webhook) => SENDER_SETTINGS.some((name) => !KEPT.includes(name) && name !== "pass_through"
  && webhook[name] !== null && Object.keys(webhook[name]).length > 0) || webhook.pass_through !== "all";

const step = (text, ...content) => element("li", {}, element("p", {}, text), content);

function fields({ fields: all }, webhook, recipe) {
  if (!all.length) return null;
  return element("dl", { class: "fields" }, all.map((one) => [
    element("dt", {}, one.name), element("dd", {}, fieldValue(one, webhook, recipe))]));
}

// What goes into a field: what is secret is copied without being shown.
function fieldValue({ name, kind, text }, webhook, recipe) {
  const shown = {
    url: () => maskedUrl(webhook), address: () => parts(maskedUrl(webhook)).address,
    token: () => `whk_••••••••${webhook.token_hint ?? ""}`, text: () => text,
  }[kind];
  if (kind === "choice") return element("span", {}, text);
  if (kind === "secret") return element("span", { class: "quiet" }, `the secret that you generated here for ${recipe.title}`);
  const whole = {
    url: () => api.url(webhook.id), address: () => parts(maskedUrl(webhook)).address,
    token: async () => parts(await api.url(webhook.id)).token, text: () => text,
  }[kind];
  const take = button("Copy", () => whileBusy(take, async () => {
    try {
      if (await copy(whole(), name)) tell(`${name} is on the clipboard.`);
    } catch (error) {
      tellProblem(api.asProblem(error));
    }
  }), { kind: "quiet", symbol: "copy", "aria-label": `Copy ${name}` });
  return [element("code", { class: "wrap" }, shown()), take];
}

function parts(url) {
  const [address, query] = url.split("?");
  return { address, token: new URLSearchParams(query).get("token") };
}

function code({ code: template }, webhook) {
  if (!template) return null;
  const { address } = parts(maskedUrl(webhook));
  const text = template.replaceAll("{address}", address).replaceAll("{host}", new URL(address).host);
  const take = button("Copy", async () => {
    if (await copy(text, "the text")) tell("The text is on the clipboard.");
  }, { symbol: "copy", "aria-label": "Copy the text" });
  return element("div", { class: "snippet" }, element("pre", { tabindex: "0", "aria-label": "Text to paste" },
    element("code", {}, text)), take);
}
