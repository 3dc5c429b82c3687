// Whether a webhook was called yet: waiting at first, green with the first call that is not refused, and red while all
// are refused.

import { element, fill } from "./dom.js";
import { exactTime, timeAgo } from "./format.js";

// `watch` is the call log of the webhook.
export function firstCall(webhook, watch) {
  const mark = element("p", { class: "first-call", role: "status" });
  const show = (state, text, at) => {
    // Without a change, nothing is read out again.
    if (mark.dataset.state === state && mark.textContent === text) return;
    mark.dataset.state = state;
    fill(mark, element("span", { title: at ? exactTime(at) : null }, text));
  };
  const draw = () => {
    const calls = watch.items() ?? [];
    const good = calls.find((call) => call.outcome !== "refused");
    const at = good?.at ?? webhook.last_used_at;
    const which = good === calls[0] ? "The last one" : "The last that was not refused";
    if (good || (at && !calls.length)) show("called", `Calls arrive. ${which} came ${timeAgo(at)}.`, at);
    else if (calls.length) show("refused", `Calls arrive, and are refused: ${calls[0].detail ?? calls[0].problem}`, calls[0].at);
    else show("waiting", "Waiting for the first call");
  };
  const forget = watch.onChange(draw);
  draw();
  return { element: mark, update: draw, close: forget };
}
