// Form fields with a label, a hint and space for the server's problems. Each has `name`, the setting or parameter,
// `element`, `read()` for its value and `problem(text)`. `also` has further names of settings that it stands for.

import { element, fill, freshId } from "./dom.js";

// The typed text is not a valid value. The field shows that before anything is sent.
export class Unreadable extends Error {}

export function field(name, label, input, { hint, read } = {}) {
  const [hintId, problemId] = [freshId("hint"), freshId("problem")];
  input.id = input.id || freshId("field");
  input.name = name;
  input.setAttribute("aria-describedby", hint ? `${hintId} ${problemId}` : problemId);
  const said = element("p", { class: "problem", id: problemId });
  let isPartial = false;
  const made = {
    name,
    input,
    read() {
      // The browser gives no value for a half-typed date, as if nothing had been typed.
      isPartial = input.validity.badInput;
      if (isPartial) throw new Unreadable("This is not complete: fill in every part of it, or clear it.");
      return read();
    },
    element: element("div", { class: "field" }, element("label", { for: input.id }, label), input,
      hint ? element("p", { class: "hint", id: hintId }, hint) : null, said),
    problem(message) {
      fill(said, message);
      if (message) input.setAttribute("aria-invalid", "true");
      else input.removeAttribute("aria-invalid");
    },
  };
  input.addEventListener("input", () => made.problem(""));
  // Clearing an invalid text changes no value, so there is no input event for it.
  const look = () => { if (isPartial && !input.validity.badInput) made.problem(""); };
  input.addEventListener("keyup", look);
  input.addEventListener("blur", look);
  return made;
}

// Marks each field with an invalid value, and focuses the first. Returns whether all fields are valid.
export function canRead(fields) {
  const wrong = fields.filter((one) => {
    try {
      one.read();
      return false;
    } catch (error) {
      if (!(error instanceof Unreadable)) throw error;
      one.problem(error.message);
      return true;
    }
  });
  if (wrong.length) goTo(wrong[0]);
  return wrong.length === 0;
}

function goTo(field) {
  const folded = field.input.closest("details:not([open])");
  if (folded) folded.open = true;
  field.input.focus();
}

export function text(name, label, { hint, value, ...attributes } = {}) {
  const input = element("input", { type: "text", spellcheck: "false", autocomplete: "off", ...attributes,
    value: value ?? "" });
  return field(name, label, input, { hint, read: () => input.value.trim() || null });
}

const DECIMAL = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

// A number that may be left empty.
export function number(name, label, { hint, value, ...attributes } = {}) {
  const input = element("input", { type: "text", inputmode: "decimal", autocomplete: "off", class: "short",
    ...attributes, value: value ?? "" });
  const read = () => {
    const given = input.value.trim();
    if (given === "") return null;
    if (!DECIMAL.test(given)) throw new Unreadable("Write a number in decimal digits, such as 30 or 0.5.");
    return Number(given);
  };
  return field(name, label, input, { hint, read });
}

export function area(name, label, { hint, value, ...attributes } = {}) {
  const input = element("textarea", { rows: 3, spellcheck: "false", ...attributes, value: value ?? "" });
  return field(name, label, input, { hint, read: () => input.value });
}

export function choice(name, label, options, value, hint) {
  const option = ([own, title]) => element("option", { value: own, selected: own === value }, title);
  const input = element("select", {}, options.map(option));
  return field(name, label, input, { hint, read: () => input.value });
}

export function toggle(name, label, checked, hint) {
  const input = element("input", { type: "checkbox", role: "switch", checked });
  const made = field(name, label, input, { hint, read: () => input.checked });
  made.element.classList.add("switch-field");
  return made;
}

// Several boxes that make one list. `options` are pairs of value and title.
export function boxes(name, label, options, values) {
  const problemId = freshId("problem");
  const said = element("p", { class: "problem", id: problemId });
  const inputs = options.map(([value]) => element("input", { type: "checkbox", value, id: freshId("box"), name,
    checked: values.includes(value) }));
  const box = (input, index) => element("label", { class: "box", for: input.id }, input, options[index][1]);
  inputs.forEach((input) => input.addEventListener("change", () => fill(said)));
  return {
    name,
    input: inputs[0],
    read: () => inputs.filter((input) => input.checked).map((input) => input.value),
    element: element("fieldset", { class: "field", "aria-describedby": problemId }, element("legend", {}, label),
      element("div", { class: "row" }, inputs.map(box)), said),
    problem(message) { fill(said, message); },
  };
}

// Shows the problems of an answer at their fields and focuses the first. Problems without a field are shown in
// `rest`.
// Returns whether the answer had problems of fields.
export function showProblems(fields, problem, rest) {
  fields.forEach((one) => one.problem(""));
  fill(rest);
  if (!problem.errors.length) return false;
  const lost = [];
  const met = new Map();
  for (const error of problem.errors) {
    const name = String(error.field ?? error.parameter ?? "");
    const plain = name.replace(/\[\d+\]$/, "");
    const own = fields.find((one) => one.name === name || one.also?.includes(name)) ?? fields.find((one) => one.name === plain)
      ?? fields.find((one) => one.name.startsWith(`${plain}.`));
    if (own) met.set(own, [...(met.get(own) ?? []), error.message]);
    else lost.push(`${name}: ${error.message}`);
  }
  met.forEach((messages, own) => own.problem(messages.join(" ")));
  if (lost.length) fill(rest, element("div", { class: "notice bad", role: "alert" }, lost.join(" ")));
  const first = fields.find((one) => met.has(one));
  if (first) goTo(first);
  return true;
}
