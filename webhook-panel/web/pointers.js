// Pointers into a sample of a call (RFC 6901), as suggestions for places in its body.

const MOST = 200;
const LONGEST = 80;

// Returns pointers with the values that they lead to, as pairs of texts. A form counts as an object of texts.
export function pointersInto({ headers, body }) {
  const found = [];
  const visit = (value, pointer) => {
    if (found.length >= MOST) return;
    if (value === null || typeof value !== "object") {
      if (pointer) found.push([pointer, String(value).slice(0, LONGEST)]);
      return;
    }
    for (const [name, inner] of Object.entries(value)) {
      visit(inner, `${pointer}/${name.replaceAll("~", "~0").replaceAll("/", "~1")}`);
    }
  };
  visit(read(headers, body), "");
  return found;
}

function read(headers, body) {
  const type = Object.entries(headers).find(([name]) => name.toLowerCase() === "content-type")?.[1] ?? "";
  if (type.includes("x-www-form-urlencoded")) {
    const form = Object.fromEntries(new URLSearchParams(body));
    return form.payload ? json(form.payload) : form;
  }
  return json(body);
}

function json(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
