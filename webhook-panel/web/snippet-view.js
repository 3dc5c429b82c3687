// The ready-made calls of one webhook. A call with the URL is shown with the token hidden, and copied with it.

import * as api from "./api.js";
import { copy } from "./clipboard.js";
import { button, element, tabs, whileBusy } from "./dom.js";
import { maskedUrl } from "./format.js";
import { tell, tellProblem } from "./messages.js";
import * as snippets from "./snippets.js";

export function snippetView(webhook, workflow) {
  const parameters = snippets.sampleParameters(workflow.parameters);
  const secret = (text) => element("code", {}, text);
  const entries = [
    { title: "curl POST", make: (url) => snippets.curlPost(url, parameters), hasUrl: true },
    webhook.allow_get ? { title: "curl GET", make: (url) => snippets.curlGet(url, parameters), hasUrl: true } : null,
    { title: "GitHub Actions", make: () => snippets.githubActions(workflow, parameters),
      note: ["Keep the URL in the repository's Actions secret ", secret("WEBHOOK_URL"), "."] },
    { title: "GitLab CI", make: () => snippets.gitlabCi(workflow, parameters),
      note: ["Keep the URL in the masked CI/CD variable ", secret("WEBHOOK_URL"), "."] },
    { title: "Airflow", make: (url) => snippets.airflow(workflow, parameters, url), hasUrl: true,
      note: ["Needs the provider package ", secret("apache-airflow-providers-http"), "."] },
    { title: "cron", make: (url) => snippets.cron(workflow, parameters, url), hasUrl: true,
      note: ["For ", secret("crontab -e"), ": at six on every workday. The token is kept in a file of its own."] },
  ];
  const shown = (entry) => ({ title: entry.title, content: () => view(entry, webhook) });
  return tabs("Ready-made calls", entries.filter(Boolean).map(shown));
}

function view(entry, webhook) {
  const text = entry.make(maskedUrl(webhook));
  const take = button("Copy", () => whileBusy(take, async () => {
    const whole = entry.hasUrl ? api.url(webhook.id).then(entry.make) : text;
    try {
      if (await copy(whole, "the call")) tell(`${entry.title} is on the clipboard.`);
    } catch (error) {
      tellProblem(api.asProblem(error));
    }
  }), { symbol: "copy", "aria-label": `Copy ${entry.title}` });
  return [entry.note ? element("p", { class: "hint" }, entry.note) : null,
    element("div", { class: "snippet" }, element("pre", { tabindex: "0", "aria-label": entry.title }, element("code", {}, text)), take)];
}
