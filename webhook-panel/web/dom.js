// Creates elements. Text only ever becomes text nodes, so a text of a workflow or caller is never read as markup.

const SVG = "http://www.w3.org/2000/svg";

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) made.addEventListener(event, listener);
    } else if (name === "value" || name === "checked") {
      made[name] = value;
    } else {
      made.setAttribute(name, value === true ? "" : String(value));
    }
  }
  append(made, children);
  return made;
}

function append(parent, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    parent.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

export function fill(parent, ...children) {
  parent.replaceChildren();
  append(parent, children);
  return parent;
}

let ids = 0;

// Creates an id by which one element can refer to another.
export function freshId(prefix) {
  ids += 1;
  return `${prefix}-${ids}`;
}

const SHAPES = {
  alert: "M12 8v5m0 3v.01M12 3 2.5 20h19z",
  back: "m15 5-7 7 7 7",
  bolt: "M13 3 5 14h6l-1 7 8-11h-6z",
  check: "m5 12.5 4.5 4.5L19 7.5",
  chevron: "m6 9 6 6 6-6",
  close: "m6 6 12 12M18 6 6 18",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  download: "M12 4v11m-5-4 5 5 5-5M5 20h14",
  eye: "M2.5 12S6 5.5 12 5.5 21.5 12 21.5 12 18 18.5 12 18.5 2.5 12 2.5 12zM12 9.2a2.8 2.8 0 1 1 0 5.6 2.8 2.8 0 0 1 0-5.6z",
  play: "M7 5v14l11-7z",
  plus: "M12 5v14M5 12h14",
  refresh: "M20 11a8 8 0 0 0-14.3-4L4 9m0-5v5h5M4 13a8 8 0 0 0 14.3 4L20 15m0 5v-5h-5",
  trash: "M5 7h14M10 7V4h4v3m-7 0 1 13h8l1-13",
};

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", SHAPES[name]);
  svg.append(path);
  return svg;
}

export function button(text, act, { kind = "plain", symbol, label, ...attributes } = {}) {
  const content = [symbol ? icon(symbol) : null, text ? element("span", {}, text) : null];
  const own = { type: "button", class: `button ${kind}`, "aria-label": label, ...attributes };
  return element("button", { ...own, on: { click: act } }, content);
}

// Disables a control while the action it started is in progress.
export async function whileBusy(control, act) {
  if (control.getAttribute("aria-disabled") === "true") return;
  control.setAttribute("aria-disabled", "true");
  control.setAttribute("aria-busy", "true");
  try {
    await act();
  } finally {
    control.removeAttribute("aria-disabled");
    control.removeAttribute("aria-busy");
  }
}

const FOCUSABLE = "a[href], button, input, select, textarea, [tabindex]";

// Redraws an area without losing the focus: the focused element gets it again, or else its replacement, or else the
// beginning of the area.
export function keepingFocus(area, draw) {
  const focused = document.activeElement;
  const isInside = area.contains(focused);
  const name = (node) => `${node.tagName} ${node.getAttribute("aria-label") ?? node.textContent}`;
  draw();
  if (!isInside || document.activeElement === focused) return;
  const places = [...area.querySelectorAll(FOCUSABLE)].filter((node) => !node.closest("[hidden]"));
  const again = places.includes(focused) ? focused : places.find((node) => name(node) === name(focused));
  (again ?? places[0] ?? document.getElementById("main"))?.focus({ preventScroll: true });
}

export function emptyState(title, text, ...actions) {
  return element("div", { class: "empty" }, element("p", { class: "empty-title" }, title),
    text ? element("p", {}, text) : null, actions.length ? element("div", { class: "row" }, actions) : null);
}

export function errorState(problem, again) {
  return element("div", { class: "notice bad", role: "alert" }, icon("alert"),
    element("div", { class: "grow" }, element("strong", {}, problem.title), element("p", {}, problem.detail)),
    again ? button("Try again", again) : null);
}

export function endedState() {
  return element("div", { class: "notice warn", role: "alert" }, icon("alert"), element("div", { class: "grow" },
    element("strong", {}, "Your session has ended"), element("p", {}, "What you see here may be out of date.")),
  button("Sign in again", () => location.reload()));
}

// A group of tabs as in the ARIA practices: one tab is in the tab order, arrows go to the others. The content of an
// entry is created each time, or once if it is to be kept.
export function tabs(label, entries) {
  const list = element("div", { class: "tabs", role: "tablist", "aria-label": label });
  const panel = element("div", { role: "tabpanel", class: "tab-panel", id: freshId("panel"), tabindex: "0" });
  const show = (index, focus) => {
    [...list.children].forEach((tab, place) => {
      const chosen = place === index;
      tab.setAttribute("aria-selected", String(chosen));
      tab.tabIndex = chosen ? 0 : -1;
      if (chosen) panel.setAttribute("aria-labelledby", tab.id);
      if (chosen && focus) tab.focus();
    });
    const entry = entries[index];
    if (entry.keep) entry.kept ??= entry.content();
    fill(panel, entry.kept ?? entry.content());
  };
  entries.forEach((entry, index) => {
    const tab = element("button", { type: "button", role: "tab", id: freshId("tab"), "aria-controls": panel.id,
      on: { click: () => show(index, false) } }, entry.title);
    list.append(tab);
  });
  list.addEventListener("keydown", (event) => {
    const number = entries.length;
    const present = [...list.children].indexOf(document.activeElement);
    const next = { ArrowRight: present + 1, ArrowLeft: present - 1, Home: 0, End: number - 1 }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    show((next + number) % number, true);
  });
  show(0, false);
  return element("div", { class: "tab-group" }, list, panel);
}
