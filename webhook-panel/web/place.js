// A place in a call: body, header or query, with a pointer or a name.

import { element } from "./dom.js";
import { choice, field } from "./fields.js";

export const PLACES = { body: "Body", header: "Header", query: "Query", method: "Method", raw_body: "Raw body" };

const POINTERS = "/repository/full_name";
const NAMES = { header: "X-Event", query: "region" };

// The fields for a place. `prefix()` is the name of the setting around it, which changes when rows are removed, and
// `pointers` the id of the list with suggestions for places in the body.
export function placeFields(prefix, sources, value, pointers) {
  const from = named(choice("from", "From", sources.map((one) => [one, PLACES[one]]), value?.from ?? sources[0]),
    () => `${prefix()}.from`);
  const input = element("input", { type: "text", spellcheck: "false", autocomplete: "off", autocapitalize: "off",
    class: "code", value: value?.pointer ?? value?.name ?? "" });
  const title = element("span");
  const isBody = () => from.read() === "body";
  const where = named(field("where", title, input, { read: () => input.value.trim() }),
    () => `${prefix()}.${isBody() ? "pointer" : "name"}`);
  const draw = () => {
    const source = from.read();
    where.element.hidden = source === "method" || source === "raw_body";
    title.textContent = isBody() ? "JSON pointer" : source === "header" ? "Name of the header" : "Name of the parameter";
    input.placeholder = isBody() ? POINTERS : NAMES[source] ?? "";
    if (isBody()) input.setAttribute("list", pointers);
    else input.removeAttribute("list");
    rename([from, where]);
  };
  from.input.addEventListener("change", draw);
  draw();
  return {
    from,
    where,
    fields: () => (where.element.hidden ? [from] : [from, where]),
    read: () => {
      const source = from.read();
      if (where.element.hidden) return { from: source };
      return isBody() ? { from: source, pointer: where.read() } : { from: source, name: where.read() };
    },
  };
}

// Gives a field a name that depends on where it stands.
export function named(one, name) {
  Object.defineProperty(one, "name", { get: name });
  return one;
}

// Passes the present names of fields on to their inputs.
export const rename = (fields) => fields.forEach((one) => { one.input.name = one.name; });

// A place as people read it.
export function placeName(place) {
  if (place.from === "body") return place.pointer === "" ? "the whole body" : `${place.pointer} of the body`;
  if (place.from === "header") return `the header ${place.name}`;
  if (place.from === "query") return `${place.name} of the query`;
  return place.from === "method" ? "the method" : "the raw body";
}
