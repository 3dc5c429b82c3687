// Runs in a frame with an origin of its own. It is handed the HTML of one artifact and shows it in a frame that
// runs no scripts at all. That frame inherits the policy this page was served with, which lets this page load its
// own files; the artifact itself gets a stricter one before its first byte, so that it cannot ask the server for
// anything.
"use strict";

const POLICY = "<!doctype html><meta http-equiv=\"Content-Security-Policy\" "
  + "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'\">";

addEventListener("message", (message) => {
  if (message.source !== parent || typeof message.data?.html !== "string") return;
  const frame = document.createElement("iframe");
  frame.setAttribute("sandbox", "");
  frame.title = String(message.data.title);
  frame.srcdoc = POLICY + message.data.html;
  document.body.replaceChildren(frame);
});
parent.postMessage({ ready: true }, "*");
