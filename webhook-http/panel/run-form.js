// "Run now": a form made from the parameter blocks. A field left empty leaves the parameter to its default.

import * as api from "./api.js";
import { button, element, errorState, fill, whileBusy } from "./dom.js";
import { area, choice, field, showProblems, text } from "./fields.js";
import { runAddress, shown } from "./format.js";
import { openDialog, tell } from "./messages.js";
import { go } from "./router.js";

// Why a text is no value, said at its field before anything is sent.
class Unreadable extends Error {}

const quoted = (value) => JSON.stringify(value);

// For each type: the field, and the JSON text of what it holds. Numbers stay text, since the server converts text
// exactly and JavaScript would round it.
const MAKERS = {
  integer: (name, label, options) => text(name, label, { ...options, inputmode: "numeric", class: "short" }),
  number: (name, label, options) => text(name, label, { ...options, inputmode: "decimal", class: "short" }),
  boolean: (name, label, { hint, unset }) =>
    choice(name, label, [["", unset], ["true", "true"], ["false", "false"]], "", hint),
  choice: (name, label, { hint, unset, choices }) =>
    choice(name, label, [["", unset], ...choices.map((one) => [one, one])], "", hint),
  date: (name, label, options) => text(name, label, { ...options, type: "date", class: "short" }),
  datetime(name, label, { hint }) {
    const input = element("input", { type: "datetime-local", step: 1, class: "short" });
    const read = () => (input.value ? new Date(input.value).toISOString() : null);
    return field(name, label, input, { hint, read });
  },
  list: (name, label, { hint, placeholder }) => area(name, label, { hint: `One item per line. ${hint}`, placeholder }),
  json: (name, label, { hint, placeholder }) => area(name, label, { hint, placeholder, class: "code" }),
  text: (name, label, options) => text(name, label, options),
};

const READERS = {
  list: (given) => quoted(given.split("\n").filter((line) => line !== "")),
  json(given) {
    try {
      JSON.parse(given);
    } catch (error) {
      throw new Unreadable(`This is not JSON: ${error.message}`);
    }
    return given;
  },
};

function parameterField(block) {
  const hasDefault = block.default !== null;
  // A list of options says by itself what happens when nothing is picked.
  const isPicked = block.type === "choice" || block.type === "boolean";
  const unless = block.required ? "" : "May be left empty.";
  const ending = isPicked ? "" : hasDefault ? `Default: ${shown(block.default)}` : unless;
  const hint = [block.description, ending].filter(Boolean).join(" · ");
  const unset = hasDefault ? `Default (${shown(block.default)})` : "Not given";
  const placeholder = hasDefault && !block.secret ? shown(block.default) : undefined;
  const required = block.required && !hasDefault;
  const label = [element("code", {}, block.name), element("span", { class: "quiet" }, ` ${block.type}`),
    required ? element("span", { class: "chip" }, "required") : null];
  const options = { hint, unset, placeholder, choices: block.choices, "aria-required": required ? "true" : null };
  const made = block.secret
    ? text(block.name, label, { ...options, placeholder: undefined, type: "password", autocomplete: "new-password" })
    : MAKERS[block.type](block.name, label, options);
  return { ...made, type: block.type };
}

// The body as text, from the fields that say something.
function body(fields) {
  const members = [];
  for (const one of fields) {
    const given = one.read();
    if (given === null || given === "") continue;
    const value = (READERS[one.type] ?? quoted)(given, one);
    members.push(`${quoted(one.name)}:${value}`);
  }
  return `{"parameters":{${members.join(",")}}}`;
}

export function openRunForm(workflow, webhooks) {
  openDialog(`Run ${workflow.title}`, (close) => {
    const named = webhooks.map((webhook) => [webhook.id, webhook.label ?? `Unnamed (…${webhook.token_hint})`]);
    const hook = choice("webhook", "As if called by", named, named[0][0], "The run follows this webhook's settings.");
    const fields = workflow.parameters.map(parameterField);
    const said = element("div");
    const start = element("button", { type: "submit", class: "button primary" }, "Start run");
    const submit = () => whileBusy(start, async () => {
      try {
        const { run_id: id } = await api.startRun(hook.read(), bodyOrProblem(fields));
        close();
        tell("The run was started.");
        go(runAddress({ id, workflow }));
      } catch (error) {
        if (error instanceof Unreadable) return;
        const problem = api.asProblem(error);
        if (!showProblems(fields, problem, said)) fill(said, errorState(problem));
      }
    });
    return element("form", { class: "form", novalidate: true, on: { submit: (event) => {
      event.preventDefault();
      submit();
    } } }, webhooks.length > 1 ? hook.element : null,
    fields.length ? fields.map((one) => one.element) : element("p", { class: "quiet" }, "This workflow has no parameters."),
    said, element("div", { class: "row end" }, button("Cancel", close), start));
  });
}

function bodyOrProblem(fields) {
  for (const one of fields.filter((one) => one.type === "json")) {
    try {
      body([one]);
    } catch (error) {
      one.problem(error.message);
      one.input.focus();
      throw error;
    }
  }
  return body(fields);
}
