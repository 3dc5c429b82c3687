// Whether a webhook was called yet: waiting at first, and green with its first call.

import { element, fill } from "./dom.js";
import { exactTime, timeAgo } from "./format.js";

// `update()` draws the webhook's record anew, and `called(at)` takes a call that was heard of before the record.
export function firstCall(webhook) {
  const mark = element("p", { class: "first-call", role: "status" });
  let heard = null;
  const draw = () => {
    const at = webhook.last_used_at ?? heard;
    mark.dataset.state = at ? "called" : "waiting";
    fill(mark, at ? element("span", { title: exactTime(at) }, `Calls arrive. The last one came ${timeAgo(at)}.`)
      : "Waiting for the first call");
  };
  draw();
  return {
    element: mark,
    update: draw,
    called(at) {
      heard = at;
      draw();
    },
  };
}
