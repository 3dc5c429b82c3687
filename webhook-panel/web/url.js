// The URL of a webhook: hidden, shown on request, copied, replaced.

import * as api from "./api.js";
import { copy } from "./clipboard.js";
import { button, element, fill, whileBusy } from "./dom.js";
import { maskedUrl } from "./format.js";
import { ask, openDialog, tell, tellProblem } from "./messages.js";

export function urlRow(webhook, changed) {
  const text = element("code", { class: "url", "aria-label": "URL" }, maskedUrl(webhook));
  let revealed = false;
  const hide = () => {
    revealed = false;
    fill(text, maskedUrl(webhook));
    fill(reveal.querySelector("span"), "Reveal");
    reveal.setAttribute("aria-pressed", "false");
  };
  const reveal = button("Reveal", () => (revealed ? hide() : whileBusy(reveal, () => guarded(async () => {
    fill(text, await api.url(webhook.id));
    revealed = true;
    fill(reveal.querySelector("span"), "Hide");
    reveal.setAttribute("aria-pressed", "true");
  }))), { symbol: "eye", "aria-pressed": "false" });
  const take = button("Copy URL", () => whileBusy(take, () => guarded(async () => {
    if (await copy(api.url(webhook.id), "the URL")) tell("The URL is on the clipboard.");
  })), { symbol: "copy" });
  const refresh = button("Refresh token", async () => {
    const agreed = await ask("Refresh the token?",
      "The webhook gets a new URL. The current URL stops working at once, for every caller.", "Refresh token",
      { danger: true });
    if (!agreed) return;
    await whileBusy(refresh, () => guarded(async () => {
      const url = await api.refreshToken(webhook.id);
      changed(await api.webhook(webhook.id));
      hide();
      showNewUrl("The token was refreshed", url);
    }));
  }, { symbol: "refresh" });
  return { hide, element: element("div", { class: "url-row" }, text,
    element("div", { class: "row" }, take, reveal, refresh)) };
}

// Shows a new URL. If the server has no token key, this is the only time it can be seen.
export function showNewUrl(title, url) {
  openDialog(title, (close) => {
    const take = button("Copy URL", async () => {
      if (await copy(url, "the URL")) fill(take.querySelector("span"), "Copied");
    }, { kind: "primary", symbol: "copy", autofocus: true });
    return [element("p", {}, "This is its URL. Whoever has it can start the workflow, so keep it like a password."),
      element("code", { class: "url" }, url), element("div", { class: "row end" }, button("Done", close), take)];
  });
}

async function guarded(act) {
  try {
    await act();
  } catch (error) {
    tellProblem(api.asProblem(error));
  }
}
