// How the server sees the browser, and whether a proxy stands between them.

import * as api from "./api.js";
import { button, element, fill, icon } from "./dom.js";

// Shows how the server sees this browser, with a way to add its address to the networks in `input`.
export function clientView(input) {
  const holder = element("div", { class: "client", "aria-live": "polite" });
  const draw = (client) => {
    if (!client.address) {
      if (client.connection) fill(holder, unknown(client));
      return;
    }
    const add = button("Allow this address", () => {
      const lines = input.value.split("\n").map((line) => line.trim()).filter(Boolean);
      if (!lines.includes(client.address)) input.value = [...lines, client.address].join("\n");
      input.dispatchEvent(new Event("input", { bubbles: true }));
      input.focus();
    }, { kind: "quiet" });
    const through = client.connection === client.address ? null
      : [", by the word of the trusted proxy ", element("code", {}, client.connection)];
    fill(holder, element("p", {}, "You would be seen as ", element("code", {}, client.address), through, ". ", add),
      isUntrusted(client) ? untrusted(client) : null);
  };
  // Without an answer, the form is as useful as before.
  api.client().then(draw, () => {});
  return holder;
}

// A proxy names a client, and the server does not trust it.
export const isUntrusted = (client) => client.forwarded && client.address === client.connection;

// The trusted proxy does not say who calls, or its headers contradict each other.
const unknown = ({ connection }) => element("div", { class: "notice warn", role: "note" }, icon("alert"),
  element("div", { class: "grow" }, element("strong", {}, "The trusted proxy does not tell your address"),
    element("p", {}, "The proxy ", element("code", {}, connection), " hides it, or sends ", element("code", {}, "Forwarded"),
      " and ", element("code", {}, "X-Forwarded-For"), " with different addresses. Networks that may call would refuse you.")));

export function untrusted({ connection }) {
  return element("div", { class: "notice warn", role: "note" }, icon("alert"), element("div", { class: "grow" },
    element("strong", {}, "A proxy stands in front of this server, which does not trust it"),
    element("p", {}, "Everyone behind it is seen as ", element("code", {}, connection),
      ". Start the server with ", element("code", {}, `--trusted-proxy ${connection}`), " if that is your proxy.")));
}
