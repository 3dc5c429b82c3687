// A list of settings of one kind, such as conditions: each is a row of fields that can be added and removed.

import { button, element, fill } from "./dom.js";
import { rename } from "./place.js";

// `make(item, place)` makes the fields of a row: its `element`, its `fields()` and what it would `read()`. `place()` is
// the row's place in the list. `word` names one row, as in "Condition 1".
export function rows(word, items, make, { add, none }) {
  const list = element("div", { class: "setting-rows" });
  const empty = element("p", { class: "quiet" }, none);
  const all = [];

  const draw = () => {
    all.forEach((row, place) => {
      fill(row.legend, `${word} ${place + 1}`);
      row.remove.setAttribute("aria-label", `Remove ${word.toLowerCase()} ${place + 1}`);
      rename(row.parts.fields());
    });
    empty.hidden = all.length > 0;
  };
  const append = (item) => {
    const row = { legend: element("legend") };
    row.parts = make(item, () => all.indexOf(row));
    row.remove = button("Remove", () => remove(row), { kind: "quiet", symbol: "trash" });
    row.element = element("fieldset", { class: "setting-row" }, row.legend, row.parts.element,
      element("div", { class: "row end" }, row.remove));
    all.push(row);
    list.append(row.element);
    return row;
  };
  const remove = (row) => {
    const place = all.indexOf(row);
    all.splice(place, 1);
    row.element.remove();
    draw();
    (all[place] ?? all[place - 1])?.remove.focus();
    if (!all.length) adder.focus();
  };
  const adder = button(add, () => {
    const row = append(undefined);
    draw();
    row.element.querySelector("input, select, textarea").focus();
  }, { symbol: "plus" });

  items.forEach(append);
  draw();
  return {
    element: element("div", { class: "setting-list" }, empty, list, element("div", { class: "row" }, adder)),
    fields: () => all.flatMap((row) => row.parts.fields()),
    read: () => all.map((row) => row.parts.read()),
  };
}
