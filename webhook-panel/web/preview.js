// A pasted sample of a call, and what would come of it: which parameter gets what, and what looks where there is nothing.

import * as api from "./api.js";
import { button, element, errorState, fill, icon, whileBusy } from "./dom.js";
import { area, choice, Unreadable, canRead, showProblems, text } from "./fields.js";
import { shown } from "./format.js";
import { SOURCES } from "./run.js";
import { placeName } from "./place.js";

const METHODS = [["POST", "POST"], ["GET", "GET"], ["HEAD", "HEAD"], ["OPTIONS", "OPTIONS"]];
const TESTS = { equals: "is", not_equals: "is not", one_of: "is one of", matches: "matches", exists: "is there:" };

// `isChanged()` says whether settings are not saved yet, `mark(problems)` shows problems at their settings, and `pasted`
// gets each sample.
export function previewView(webhook, { isChanged, mark, pasted }) {
  const method = choice("method", "Method", METHODS, "POST");
  const query = text("query", "Query", { placeholder: "region=APAC", hint: "Without the token." });
  const headers = area("headers", "Headers", { class: "code", placeholder: "Content-Type: application/json", rows: 3,
    hint: "One per line, as Name: value." });
  const read = headers.read;
  headers.read = () => readHeaders(read());
  const body = area("body", "Body", { class: "code", rows: 8, placeholder: '{"region": "APAC"}' });
  const said = element("div");
  const result = element("div", { class: "preview", role: "status" });
  body.input.addEventListener("change", () => {
    if (body.read()) pasted({ headers: leniently(read()), body: body.read() });
  });
  const submit = element("button", { type: "submit", class: "button primary" }, "Preview");
  const fields = [method, query, headers, body];
  let sample = null;
  const fillIn = button("Fill in its sample", () => {
    headers.input.value = showHeaders(sample.headers);
    body.input.value = sample.body;
    method.input.value = "POST";
    query.input.value = "";
    submit.focus();
  }, { hidden: true });

  const run = () => whileBusy(submit, async () => {
    fill(said);
    if (!canRead(fields)) return;
    const call = { method: method.read(), query: query.read() ?? "", headers: headers.read(), body: body.read() };
    try {
      const preview = await api.preview(webhook.id, call);
      mark(preview.problems);
      fill(result, outcome(preview), isChanged() ? element("p", { class: "hint" },
        "The preview shows the saved settings. Some changes are not saved yet.") : null);
    } catch (error) {
      const problem = api.asProblem(error);
      fill(result);
      if (!showProblems(fields, problem, said)) fill(said, errorState(problem));
    }
  });

  const form = element("form", { class: "form", novalidate: true, on: { submit: (event) => {
    event.preventDefault();
    run();
  } } }, element("div", { class: "grid" }, method.element, query.element), headers.element, body.element, said,
  element("div", { class: "row" }, submit, fillIn));
  return {
    element: element("div", { class: "setting-list" },
      element("p", { class: "hint" }, "Paste a call of the sender. Nothing is started, and no key is used up."), form, result),
    offer(recipe) {
      sample = recipe?.sample ?? null;
      fillIn.hidden = !sample;
      if (recipe) fill(fillIn.querySelector("span"), `Fill in the sample of ${recipe.title}`);
    },
  };
}

export const showHeaders = (headers) => Object.entries(headers).map(([name, value]) => `${name}: ${value}`).join("\n");

// The headers of a sample, or none while they cannot be read.
function leniently(given) {
  try {
    return readHeaders(given);
  } catch {
    return {};
  }
}

export function readHeaders(given) {
  const headers = {};
  for (const line of given.split("\n").map((one) => one.trim()).filter(Boolean)) {
    const colon = line.indexOf(":");
    if (colon < 1) throw new Unreadable(`Write a header as Name: value. This is not one: ${line}`);
    headers[line.slice(0, colon).trim()] = line.slice(colon + 1).trim();
  }
  return headers;
}

function outcome({ verification, handshake, conditions, parameters, problems, warnings }) {
  const isMissing = (problem) => problem.code === "not_in_sample";
  const refusals = problems.filter((problem) => !isMissing(problem));
  const isSigned = verification === null || verification.ok;
  const verdict = !isSigned ? ["bad", "This call would be refused: it is not known to be its sender's."]
    : handshake ? ["good", "This is a check of the URL: it is answered, and starts no run."]
    : !conditions.met ? ["warn", "This call would be ignored: it does not meet a condition."]
    : refusals.length ? ["bad", refusals.every((one) => one.parameter)
      ? "This call would be refused: its parameters do not fit." : "This call would be refused."]
    : ["good", "This call would start a run."];
  const names = Object.keys(parameters);
  return [
    element("div", { class: `notice ${verdict[0]}` }, icon(verdict[0] === "good" ? "check" : "alert"),
      element("strong", {}, verdict[1])),
    element("dl", { class: "facts" },
      fact("Signature", verification === null ? "Not verified: the token is all."
        : verification.ok ? "It fits." : verification.detail),
      fact("Conditions", conditions.met ? "All are met." : `Not met: ${conditionText(conditions.failed)}`)),
    names.length ? element("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": "Parameters of the sample" },
      element("table", {}, element("thead", {}, element("tr", {}, ["Parameter", "Value", "From"].map((title) =>
        element("th", { scope: "col" }, title)))), element("tbody", {}, names.map((name) => element("tr", {},
        element("th", { scope: "row" }, element("code", {}, name)),
        element("td", {}, element("code", { class: "wrap value" }, shown(parameters[name].value))),
        element("td", { class: "quiet" }, SOURCES[parameters[name].source] ?? parameters[name].source)))))) : null,
    list("problem", refusals.map((one) => one.message)),
    list("problem", problems.filter(isMissing).map((one) => `${settingName(one.field)}: ${one.message}`)),
    list("quiet", warnings.map((one) => one.message)),
  ];
}

const fact = (name, text) => [element("dt", {}, name), element("dd", { class: "wrap" }, text)];

const list = (kind, texts) => (texts.length
  ? element("ul", { class: "bare results" }, texts.map((text) => element("li", { class: kind }, text))) : null);

const conditionText = ({ op, value, ...place }) => `${placeName(place)} ${TESTS[op] ?? op} ${shown(value)}`;

// The name of a setting as the form has it, such as "Condition 1".
function settingName(name) {
  const [, kind, place] = /^(conditions\.all|mapping)\[(\d+)\]/.exec(name) ?? [];
  if (kind) return `${kind === "mapping" ? "Parameter" : "Condition"} ${Number(place) + 1}`;
  return name.startsWith("idempotency_from") ? "Event id" : name;
}
