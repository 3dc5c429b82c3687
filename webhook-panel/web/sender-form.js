// The settings for the sender of a webhook's calls: how they are verified, which of them start a run, and where its
// parameters come from.

import { clientView } from "./client.js";
import { element, freshId } from "./dom.js";
import { editor, grid, group } from "./editor.js";
import { area, choice, field, number, text, Unreadable } from "./fields.js";
import { named, placeFields, rename } from "./place.js";
import { rows } from "./rows.js";
import { readValue, showValue, VALUE_HINT } from "./values.js";
import { verificationFields } from "./verification.js";

export const SENDER_SETTINGS = ["verification", "idempotency_from", "allowed_networks", "conditions", "mapping",
  "pass_through", "fixed", "answer", "keep_bodies_s"];

const TESTS = [["equals", "is"], ["not_equals", "is not"], ["one_of", "is one of"], ["matches", "matches the pattern"],
  ["exists", "is there"]];
const PASS_THROUGH = [["all", "All count"], ["declared", "Those the workflow declares count"], ["none", "None counts"]];
const ANSWERS = [["", "What the sender expects"], ["200", "200, with a body"], ["202", "202, with a body"],
  ["204", "204, without a body"]];

// The part of a webhook that the form shows.
const settingsOf = (webhook) => JSON.stringify(SENDER_SETTINGS.map((name) => webhook[name]));

// `known` has the presets, and the id of the list with pointers into a sample.
export const senderForm = (webhook, workflow, known, changed) =>
  editor(webhook, changed, { settingsOf, parts: (record) => parts(record, workflow, known) });

function parts(webhook, workflow, { presets, pointers }) {
  const verification = verificationFields(webhook.verification, presets);
  const key = keyFields(webhook.idempotency_from, pointers);
  const conditions = rows("Condition", webhook.conditions?.all ?? [], (item, place) => conditionRow(item, place, pointers),
    { add: "Add a condition", none: "Every call starts a run." });
  const names = element("datalist", { id: freshId("parameters") },
    workflow.parameters.map((block) => element("option", { value: block.name })));
  const mapping = rows("Parameter", webhook.mapping, (rule, place) => mappingRow(rule, place, names.id, pointers),
    { add: "Map a parameter", none: "No parameter is taken from a place in the call." });
  const fixedInputs = new Set();
  const fixed = rows("Fixed parameter", Object.entries(webhook.fixed), (entry) => fixedRow(entry, names.id, fixedInputs),
    { add: "Fix a parameter", none: "Callers may set every parameter." });
  const passThrough = choice("pass_through", "Other parameters of query and body", PASS_THROUGH, webhook.pass_through,
    "Choose none for senders whose payload is not made for this workflow.");
  const networks = area("allowed_networks", "Allowed networks", { value: (webhook.allowed_networks ?? []).join("\n"),
    placeholder: "192.0.2.0/24", hint: "One network (CIDR) or address per line; empty for any address." });
  const kept = number("keep_bodies_s", "Keep calls for a replay, in seconds", { value: webhook.keep_bodies_s,
    placeholder: "not kept", hint: "An accepted call can be run again for this time, for example with another mapping. It is sealed." });
  const answer = choice("answer.status", "Status of an accepted call", ANSWERS, String(webhook.answer?.status ?? ""));

  const read = () => {
    const all = conditions.read();
    const given = networks.read().split(/[\s,]+/).filter(Boolean);
    const status = answer.read();
    return {
      verification: verification.read(),
      idempotency_from: key.read(),
      allowed_networks: given.length ? given : null,
      conditions: all.length ? { all } : null,
      mapping: mapping.read(),
      pass_through: passThrough.read(),
      fixed: Object.fromEntries(fixed.read()),
      answer: status ? { status: Number(status) } : null,
      keep_bodies_s: kept.read(),
    };
  };
  const before = read();
  const content = [
    group("Verification", verification.elements),
    group("Conditions", element("p", { class: "hint" }, "A call that does not meet them all is answered, and starts no run."),
      conditions.element),
    names,
    group("Parameters from the call", mapping.element, passThrough.element),
    group("Fixed parameters", fixed.element),
    group("Repeated calls", key.elements),
    group("Addresses", networks.element, clientView(networks.input)),
    group("Answer and replay", grid(answer, kept)),
  ];
  const fields = () => [...verification.fields(), ...conditions.fields(), ...mapping.fields(), passThrough, ...fixed.fields(),
    ...key.fields(), networks, answer, kept];
  return { content, fields, patch: () => changes(before, read()) };
}

// The patch from one to the other. Each setting is sent whole, and a fixed parameter that is gone as null.
function changes(before, after) {
  const patch = {};
  for (const name of SENDER_SETTINGS) {
    if (JSON.stringify(before[name]) === JSON.stringify(after[name])) continue;
    const gone = name === "fixed" ? Object.keys(before.fixed).filter((one) => !Object.hasOwn(after.fixed, one)) : [];
    patch[name] = name === "fixed" ? { ...after.fixed, ...Object.fromEntries(gone.map((one) => [one, null])) } : after[name];
  }
  return patch;
}

// The place of the sender's event id, if it is not the preset's.
function keyFields(value, pointers) {
  const own = choice("idempotency_from", "Event id", [["", "As the sender's preset says"], ["own", "At a place of its own"]],
    value ? "own" : "");
  const place = placeFields(() => "idempotency_from", ["header", "body"], value, pointers);
  const more = grid(place.from, place.where);
  const draw = () => { more.hidden = own.read() === ""; };
  own.input.addEventListener("change", draw);
  draw();
  return {
    elements: [element("p", { class: "hint" }, "A call with the event id of an earlier one gives the run of that one."),
      own.element, more],
    fields: () => (own.read() ? [own, ...place.fields()] : [own]),
    read: () => (own.read() ? place.read() : null),
  };
}

function conditionRow(condition, row, pointers) {
  const prefix = () => `conditions.all[${row()}]`;
  const place = placeFields(prefix, ["body", "header", "query"], condition, pointers);
  const test = named(choice("op", "Test", TESTS, condition?.op ?? "equals"), () => `${prefix()}.op`);
  const value = named(valueField(condition, () => test.read(), () => place.from.read()), () => `${prefix()}.value`);
  const redraw = () => value.draw();
  test.input.addEventListener("change", redraw);
  place.from.input.addEventListener("change", redraw);
  return {
    element: grid(place.from, place.where, test, value),
    fields: () => [...place.fields(), test, value],
    read: () => ({ ...place.read(), op: test.read(), value: value.read() }),
  };
}

// The value of a test: JSON for a place in the body, text for headers and queries, where nothing else could be equal.
function valueField(condition, test, from) {
  const isText = () => from() !== "body" || test() === "matches";
  const asText = (value) => (typeof value === "string" && isText() ? value : showValue(value));
  const typed = ({ op, value }) => (op === "exists" ? "" : op === "one_of" ? value.map(asText).join("\n") : asText(value));
  const input = element("textarea", { rows: 1, class: "typed", spellcheck: "false", autocapitalize: "off",
    value: condition ? typed(condition) : "" });
  const there = element("select", { "aria-label": "Presence" },
    element("option", { value: "true" }, "it is there"),
    element("option", { value: "false", selected: condition?.op === "exists" && condition.value === false }, "it is missing"));
  const readOne = (text) => (isText() ? text : readValue(text));
  const read = () => {
    if (test() === "exists") return there.value === "true";
    if (test() === "one_of") return input.value.split("\n").filter((line) => line.trim() !== "").map(readOne);
    return readOne(input.value);
  };
  const label = element("span");
  const made = field("value", label, input, { read });
  made.element.append(there);
  made.draw = () => {
    const isThere = test() === "exists";
    label.textContent = isThere ? "Presence" : test() === "one_of" ? "Values, one per line" : test() === "matches" ? "Pattern" : "Value";
    input.hidden = isThere;
    there.hidden = !isThere;
    input.rows = test() === "one_of" ? 3 : 1;
  };
  made.draw();
  return made;
}

function mappingRow(rule, row, list, pointers) {
  const prefix = () => `mapping[${row()}]`;
  const parameter = named(parameterField(rule?.parameter, list), () => `${prefix()}.parameter`);
  const place = placeFields(prefix, ["body", "header", "query", "method", "raw_body"], rule, pointers);
  const hasDefault = rule?.default !== null && rule?.default !== undefined;
  const fallback = named(optionalValue("Where it is missing", hasDefault ? showValue(rule.default) : ""),
    () => `${prefix()}.default`);
  const read = () => {
    const given = fallback.read();
    return { parameter: parameter.read() ?? "", ...place.read(), default: given === undefined ? null : given };
  };
  return { element: grid(parameter, place.from, place.where, fallback),
    fields: () => [parameter, ...place.fields(), fallback], read };
}

function optionalValue(label, typed) {
  const input = element("input", { type: "text", spellcheck: "false", autocomplete: "off", placeholder: "the default",
    value: typed });
  return field("default", label, input, { read: () => (input.value.trim() === "" ? undefined : readValue(input.value)) });
}

function fixedRow(entry, list, inputs) {
  const parameter = parameterField(entry?.[0], list);
  inputs.add(parameter.input);
  const name = parameter.read;
  parameter.read = () => {
    const given = name();
    const same = [...inputs].filter((one) => one.isConnected && one.value.trim() === given);
    if (given !== null && same.length > 1) throw new Unreadable("This parameter is fixed twice.");
    return given;
  };
  const input = element("input", { type: "text", spellcheck: "false", autocomplete: "off",
    value: entry ? showValue(entry[1]) : "" });
  const value = named(field("value", "Value", input, { hint: VALUE_HINT, read: () => readValue(input.value) }),
    () => `fixed.${name() ?? ""}`);
  parameter.input.addEventListener("input", () => rename([value]));
  return { element: grid(parameter, value), fields: () => [parameter, value],
    read: () => [parameter.read() ?? "", value.read()] };
}

// A parameter by its name. Those of the workflow are suggested by `list`.
const parameterField = (name, list) => text("parameter", "Parameter", { value: name, list, class: "code" });
