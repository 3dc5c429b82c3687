// JSON values as people type them: what reads as JSON counts as JSON, and everything else as text.

import { parseExact } from "./api.js";
import { Unreadable } from "./fields.js";

const LIKE_JSON = /^[[{"]/;

// Reads one value. Quotes make a text of what would be a number, `true`, `false` or `null`.
export function readValue(typed) {
  const given = typed.trim();
  try {
    return parseExact(given);
  } catch (error) {
    if (LIKE_JSON.test(given)) throw new Unreadable(`This is not JSON: ${error.message}`);
    return given;
  }
}

// Returns the text from which `readValue` reads the value.
export function showValue(value) {
  if (typeof value !== "string") return JSON.stringify(value);
  const isAmbiguous = LIKE_JSON.test(value) || value !== value.trim() || value === "" || isJson(value);
  return isAmbiguous ? JSON.stringify(value) : value;
}

function isJson(text) {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

export const VALUE_HINT = "A number, true, false or other JSON counts as such. Put quotes around a text that looks like one.";
