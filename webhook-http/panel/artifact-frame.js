// Runs in a frame with an origin of its own. It is handed the HTML of one artifact and shows it in a frame that
// runs no scripts at all. What that frame may load is decided by the policy this page was served with.
"use strict";

addEventListener("message", (message) => {
  if (message.source !== parent || typeof message.data?.html !== "string") return;
  const frame = document.createElement("iframe");
  frame.setAttribute("sandbox", "");
  frame.title = String(message.data.title);
  frame.srcdoc = message.data.html;
  document.body.replaceChildren(frame);
});
parent.postMessage({ ready: true }, "*");
