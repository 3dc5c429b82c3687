// A test call, sent by the browser to the webhook's own address.

import * as api from "./api.js";
import { button, element, errorState, fill, whileBusy } from "./dom.js";
import { area, canRead, toggle } from "./fields.js";
import { openDialog } from "./messages.js";
import { readHeaders, showHeaders } from "./preview.js";
import { sampleParameters } from "./snippets.js";

export function openTestCall(webhook, workflow) {
  openDialog("Send a test call", (close) => {
    const dry = toggle("dry_run", "Dry run", true, "The call is checked, and starts no run.");
    const headers = area("headers", "Headers", { class: "code", rows: 3, hint: "One per line, as Name: value.",
      value: "Content-Type: application/json" });
    const read = headers.read;
    headers.read = () => readHeaders(read());
    const body = area("body", "Body", { class: "code", rows: 6,
      value: JSON.stringify(sampleParameters(workflow.parameters), null, 2) });
    suggest(webhook, headers, body);
    const said = element("div", { class: "setting-list", role: "status" });
    const send = element("button", { type: "submit", class: "button primary" }, "Send");
    const submit = () => whileBusy(send, async () => {
      fill(said);
      if (!canRead([headers])) return;
      try {
        const token = new URL(await api.url(webhook.id)).searchParams.get("token");
        const own = dry.read() ? { ...headers.read(), "Webhook-Dry-Run": "true" } : headers.read();
        const { status, text } = await api.callWebhook(webhook.workflow, token, { headers: own, body: body.read() });
        fill(said, element("div", { class: `notice ${status < 300 ? "good" : "bad"}` },
          element("strong", {}, `Answered with ${status}`)),
        text ? element("pre", { class: "text-artifact", tabindex: "0", "aria-label": "Answer" }, indented(text)) : null);
      } catch (error) {
        fill(said, errorState(api.asProblem(error)));
      }
    });
    return element("form", { class: "form", novalidate: true, on: { submit: (event) => {
      event.preventDefault();
      submit();
    } } },
    webhook.verification ? element("p", { class: "hint" },
      "This call is not signed. Where the sender signs its calls, it is refused; the preview shows the rest.") : null,
    dry.element, headers.element, body.element, said,
    element("div", { class: "row end" }, button("Close", close), send));
  });
}

// Fills in the sample of the sender that the webhook is set up for.
async function suggest(webhook, headers, body) {
  const preset = webhook.verification?.preset;
  if (!preset) return;
  const before = body.input.value;
  const recipe = await api.recipes().then((all) => all.find((one) => one.preset === preset), () => null);
  if (!recipe || body.input.value !== before) return;
  headers.input.value = showHeaders(recipe.sample.headers);
  body.input.value = recipe.sample.body;
}

function indented(text) {
  try {
    return JSON.stringify(api.parseExact(text), null, 2);
  } catch {
    return text;
  }
}
