// How the calls of a webhook are verified: by a preset, or by a scheme that is described here.

import { element, fill } from "./dom.js";
import { choice, number, text } from "./fields.js";

const SCHEMES = [["hmac", "HMAC signature"], ["ed25519", "Ed25519 signature"],
  ["shared-secret", "Secret in a header"], ["basic", "User name and password (Basic)"]];
const ALGORITHMS = [["sha256", "SHA-256"], ["sha1", "SHA-1"], ["sha512", "SHA-512"]];
const ENCODINGS = [["hex", "Hexadecimal digits"], ["base64", "Base64"]];

// The fields of the setting `verification`.
export function verificationFields(value, presets) {
  const named = (name) => `verification.${name}`;
  const isPreset = (kind) => presets.some((one) => one.preset === kind);
  const kind = choice(named("preset"), "Verified by", [["", "None: the token in the URL is all"],
    ...presets.map((one) => [one.preset, one.title]), ...SCHEMES], value?.preset ?? value?.scheme ?? "");
  kind.also = ["verification", named("scheme")];
  const header = text(named("header"), "Header", { value: value?.header, placeholder: "X-Signature",
    hint: "The header with the signature, or with the secret." });
  const algorithm = choice(named("algorithm"), "Hash function", ALGORITHMS, value?.algorithm ?? "sha256");
  const encoding = choice(named("encoding"), "Encoding", ENCODINGS, value?.encoding ?? "hex");
  const prefix = text(named("prefix"), "Prefix", { value: value?.prefix, placeholder: "sha256=",
    hint: "Text before each signature." });
  const signed = text(named("signed"), "Signed text", { value: value?.signed, placeholder: "{body}",
    hint: "May hold {timestamp}, {id}, {body} and {url}." });
  const timestamp = text(named("timestamp_header"), "Header with the time", { value: value?.timestamp_header,
    placeholder: "X-Timestamp", hint: "Only if the time is signed." });
  const id = text(named("id_header"), "Header with the id", { value: value?.id_header, placeholder: "X-Id",
    hint: "Only if the id is signed." });
  const tolerance = number(named("tolerance_s"), "Tolerance in seconds", { value: value?.tolerance_s, placeholder: "300",
    hint: "The signed time may be this far from now." });
  // A verify token is never returned, so an empty field keeps the one that is stored.
  const verifyToken = text(named("verify_token"), "Verify token", { type: "password", autocomplete: "new-password",
    hint: "Text that Meta presents when it checks the URL. It is never shown again; leave it empty to keep the present one." });

  const signature = [header, encoding, prefix, signed, timestamp, id, tolerance];
  const shownFor = (chosen) => ({ hmac: [algorithm, ...signature], ed25519: signature, "shared-secret": [header],
    meta: [verifyToken] })[chosen] ?? [];
  const remark = element("p", { class: "hint" });
  const more = element("div", { class: "grid", hidden: true });
  const draw = () => {
    const fields = shownFor(kind.read());
    fill(more, fields.map((one) => one.element));
    more.hidden = fields.length === 0;
    fill(remark, remarkOn(presets.find((one) => one.preset === kind.read())));
  };
  kind.input.addEventListener("change", draw);
  draw();

  const withValues = (fields) => Object.fromEntries(fields
    .map((one) => [one.name.replace("verification.", ""), one.read()]).filter(([, given]) => given !== null));
  return {
    elements: [kind.element, remark, more],
    fields: () => [kind, ...shownFor(kind.read())],
    read() {
      const chosen = kind.read();
      if (chosen === "") return null;
      const own = withValues(shownFor(chosen));
      return isPreset(chosen) ? { preset: chosen, ...own } : { scheme: chosen, ...own };
    },
  };
}

function remarkOn(preset) {
  if (!preset) return null;
  const { needs_secret: needsSecret, event_id: eventId, handshake, success_status: status } = preset;
  return [needsSecret ? "Needs a secret." : "Signs nothing, and needs no secret.",
    eventId ? ` Repeated calls are known by ${eventId}.` : " Repeated calls are not known.",
    handshake ? ` Its check of the URL is answered: ${handshake}.` : null, ` An accepted call is answered with ${status}.`];
}
