// Runs in a frame with its own origin. It receives the HTML of one artifact and shows it in a frame without scripts.
// The inner frame inherits the policy of this page, which allows this page's own files. The artifact itself gets a
// stricter policy before its first byte, so it cannot send any request to the server.
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
