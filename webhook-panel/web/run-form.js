// "Run now": a form made from the parameter blocks. An empty field leaves the parameter to its default.

import * as api from "./api.js";
import { button, element, errorState, fill, whileBusy } from "./dom.js";
import { canRead, choice, field, showProblems, text, Unreadable } from "./fields.js";
import { runAddress, shown, webhookName } from "./format.js";
import { openDialog, tell } from "./messages.js";
import { go } from "./router.js";

const quoted = (value) => JSON.stringify(value);

// The field for each type. Numbers stay text, since the server converts text exactly and JavaScript would round it.
const MAKERS = {
  integer: (name, label, options) => text(name, label, { ...options, inputmode: "numeric", class: "short" }),
  number: (name, label, options) => text(name, label, { ...options, inputmode: "decimal", class: "short" }),
  boolean: (name, label, options) => picked(name, label, ["true", "false"], options),
  choice: (name, label, options) => picked(name, label, options.choices, options),
  date: (name, label, options) => text(name, label, { ...options, type: "date", max: "9999-12-31", class: "short" }),
  datetime(name, label, { hint, ...attributes }) {
    const input = element("input", { type: "datetime-local", step: 1, max: "9999-12-31T23:59:59", class: "short",
      "aria-required": attributes["aria-required"] });
    const read = () => (input.value ? new Date(input.value).toISOString() : null);
    return field(name, label, input, { hint, read });
  },
  list: (name, label, { hint, ...options }) => typed(name, label, { ...options, hint: `One item per line. ${hint}`, rows: 3 }),
  json: (name, label, options) => typed(name, label, { ...options, rows: 3 }),
  text: (name, label, options) => typed(name, label, options),
};

// The JSON text of a field's value, if that is more than the text in quotes.
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

// An option may be the empty text, so its index says whether one was chosen.
function picked(name, label, options, { hint, unset }) {
  const made = choice(name, label, [["", unset], ...options.map((one) => [one, one])], "", hint);
  const read = () => (made.input.selectedIndex > 0 ? made.input.value : null);
  return { ...made, read };
}

const canHide = CSS.supports("-webkit-text-security", "disc");

// A field whose text and lists are sent as they were typed, spaces and line breaks included. In a field of one line,
// Enter starts the run, as in the others.
function typed(name, label, { hint, placeholder, type, secret, rows = 1, ...attributes }) {
  const common = { spellcheck: "false", autocomplete: "off", placeholder, "aria-required": attributes["aria-required"] };
  const input = secret && !canHide
    ? element("input", { ...common, type: "password", autocomplete: "new-password" })
    : element("textarea", { ...common, rows, autocapitalize: "off",
      class: `typed${secret ? " secret" : ""}${type === "json" ? " code" : ""}` });
  const isExact = type === "text" || type === "list";
  if (rows === 1) {
    input.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      input.form.requestSubmit();
    });
  }
  return field(name, label, input, { hint, read: () => (isExact ? input.value : input.value.trim()) || null });
}

function parameterField(block) {
  const hasDefault = block.default !== null;
  // A list of options already shows what happens if none is chosen.
  const isPicked = !block.secret && (block.type === "choice" || block.type === "boolean");
  const unless = block.required ? "" : "May be left empty.";
  const ending = isPicked ? "" : hasDefault ? `Default: ${shown(block.default)}` : unless;
  const hint = [block.description, ending].filter(Boolean).join(" · ");
  const unset = hasDefault ? `Default (${shown(block.default)})` : "Not given";
  const placeholder = hasDefault && !block.secret ? shown(block.default) : undefined;
  const required = block.required && !hasDefault;
  const label = [element("code", {}, block.name), element("span", { class: "quiet" }, ` ${block.type}`),
    required ? element("span", { class: "chip" }, "required") : null];
  const options = { hint, unset, placeholder, choices: block.choices, type: block.type, secret: block.secret,
    "aria-required": required ? "true" : null };
  const made = (block.secret ? typed : MAKERS[block.type])(block.name, label, options);
  const read = () => {
    const given = made.read();
    return given === null ? null : (READERS[block.type] ?? quoted)(given);
  };
  return { ...made, read };
}

// The body as text, from the fields with a value.
function body(fields) {
  const given = fields.map((one) => [one.name, one.read()]).filter(([, value]) => value !== null);
  return `{"parameters":{${given.map(([name, value]) => `${quoted(name)}:${value}`).join(",")}}}`;
}

// The webhook of the run: one of several, or the only one.
function webhookField(webhooks) {
  const named = webhooks.map((one) => [one.id, one.enabled ? webhookName(one) : `${webhookName(one)} (disabled)`]);
  const first = webhooks.find((one) => one.enabled) ?? webhooks[0];
  const hook = choice("webhook", "As if called by", named, first.id, "The run follows this webhook's settings.");
  const remark = element("p", { class: "notice", role: "status" },
    "This webhook is disabled: its callers get an error. A run that is started here is still executed.");
  const draw = () => { remark.hidden = webhooks.find((one) => one.id === hook.read())?.enabled ?? true; };
  hook.input.addEventListener("change", draw);
  draw();
  const only = element("p", {}, "As if called by ", element("strong", { class: "wrap" }, named[0][1]), ", with its settings.");
  return { read: hook.read, elements: [webhooks.length > 1 ? hook.element : only, remark] };
}

export function openRunForm(workflow, webhooks) {
  openDialog(`Run ${workflow.title}`, (close) => {
    const hook = webhookField(webhooks);
    const fields = workflow.parameters.map(parameterField);
    const said = element("div");
    const start = element("button", { type: "submit", class: "button primary" }, "Start run");
    const submit = () => whileBusy(start, async () => {
      if (!canRead(fields)) return;
      try {
        const { run_id: id, warnings = [] } = await api.startRun(hook.read(), body(fields));
        close();
        tell(["The run was started.", ...warnings.map((one) => one.message)].join(" "));
        go(runAddress({ id, workflow }));
      } catch (error) {
        const problem = api.asProblem(error);
        if (!showProblems(fields, problem, said)) fill(said, errorState(problem));
      }
    });
    return element("form", { class: "form", novalidate: true, on: { submit: (event) => {
      event.preventDefault();
      submit();
    } } }, hook.elements,
    fields.length ? fields.map((one) => one.element) : element("p", { class: "quiet" }, "This workflow has no parameters."),
    said, element("div", { class: "row end" }, button("Cancel", close), start));
  });
}
