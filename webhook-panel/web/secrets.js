// The secrets with which a sender signs its calls: at most two, so that one can be replaced without a gap.

import * as api from "./api.js";
import { copy } from "./clipboard.js";
import { button, element, errorState, fill, keepingFocus, whileBusy } from "./dom.js";
import { showProblems, text } from "./fields.js";
import { exactTime, timeAgo } from "./format.js";
import { ask, openDialog, tell, tellProblem } from "./messages.js";

const MOST = 2;

// The list of a webhook's secrets, with `generate()` and `enter()` for other places of the page. `needed()` says
// whether calls are refused without one.
export function secretList(webhook, needed) {
  const list = element("ul", { class: "bare boxed" });
  const said = element("div");
  let items = null;

  const draw = () => keepingFocus(holder, () => {
    fill(list, items?.map(row));
    list.hidden = !items?.length;
    const isFull = items?.length >= MOST;
    generate.disabled = enter.disabled = isFull;
    fill(said, items === null ? null
      : isFull ? element("p", { class: "hint" }, "There are two. Remove the old one before you add another.")
      : items.length === 0 && needed() ? element("div", { class: "notice warn", role: "note" }, element("div", {},
        element("strong", {}, "Every call is refused until there is a secret.")))
      : items.length === 0 ? element("p", { class: "quiet" }, "There is none, and none is needed.") : null);
  });

  const load = async () => {
    try {
      items = await api.secrets(webhook.id);
      draw();
    } catch (error) {
      fill(said, errorState(api.asProblem(error), load));
    }
  };

  const row = (secret) => {
    const name = secret.hint ? `…${secret.hint}` : "A short secret";
    const remove = button("Remove", () => whileBusy(remove, async () => {
      const agreed = await ask(`Remove the secret ${name}?`,
        "Calls that are signed with it are refused at once.", "Remove", { danger: true });
      if (!agreed) return;
      try {
        await api.removeSecret(webhook.id, secret.id);
        tell("The secret was removed.");
      } catch (error) {
        tellProblem(api.asProblem(error));
      }
      await load();
    }), { symbol: "trash", "aria-label": `Remove the secret ${name}` });
    return element("li", { class: "artifact" }, element("span", { class: "grow" }, element("code", {}, name),
      element("span", { class: "quiet", title: exactTime(secret.created_at) }, ` added ${timeAgo(secret.created_at)}`)), remove);
  };

  const made = async (control) => whileBusy(control, async () => {
    try {
      const added = await api.addSecret(webhook.id, {});
      showNewSecret(added.secret);
      await load();
    } catch (error) {
      const problem = api.asProblem(error);
      tell(problem.errors[0]?.message ?? `${problem.title}. ${problem.detail}`, true);
    }
  });
  const generate = button("Generate a secret", () => made(generate));
  const enter = button("Enter a secret", () => openEntry(webhook, load));

  const holder = element("div", { class: "setting-list" }, list, said, element("div", { class: "row" }, generate, enter));
  generate.disabled = enter.disabled = true;
  load();
  return { element: holder, draw, generate: (control) => made(control), enter: () => openEntry(webhook, load) };
}

// Shows a generated secret. It cannot be seen again.
function showNewSecret(secret) {
  openDialog("The secret was generated", (close) => {
    const take = button("Copy secret", async () => {
      if (await copy(secret, "the secret")) fill(take.querySelector("span"), "Copied");
    }, { kind: "primary", symbol: "copy", autofocus: true });
    return [element("p", {}, "Enter it at the sender now: it is shown this once."),
      element("code", { class: "url", "aria-label": "Secret" }, secret),
      element("div", { class: "row end" }, button("Done", close), take)];
  });
}

function openEntry(webhook, added) {
  openDialog("Enter the sender's secret", (close) => {
    const secret = text("secret", "Secret", { type: "password", autocomplete: "new-password", autofocus: true,
      "aria-required": "true", hint: "As the sender shows it. It is sealed, and never shown again." });
    const said = element("div");
    const submit = element("button", { type: "submit", class: "button primary" }, "Store");
    return element("form", { class: "form", novalidate: true, on: { submit: (event) => {
      event.preventDefault();
      whileBusy(submit, async () => {
        if (!secret.input.value) {
          secret.problem("Enter the secret.");
          secret.input.focus();
          return;
        }
        try {
          await api.addSecret(webhook.id, { secret: secret.input.value.trim() });
          close();
          tell("The secret was stored.");
          await added();
        } catch (error) {
          const problem = api.asProblem(error);
          if (!showProblems([secret], problem, said)) fill(said, errorState(problem));
        }
      });
    } } }, secret.element, said, element("div", { class: "row end" }, button("Cancel", close), submit));
  });
}
