//! Reading the setting as a person gives it.

use serde_json::Value;

use super::preset::Preset;
use super::scheme::{
    LONGEST_TOLERANCE_S, Scheme, SignatureScheme, Verification, body_alone, default_tolerance_s,
};
use super::template::{Part, Place, parts, unknown_place};
use crate::secret::Secret;
use crate::setting::{SettingCode, SettingProblem, SettingsForm};

/// Most bytes of a prefix and of the signed text.
const PREFIX_BYTES: usize = 64;
const SIGNED_BYTES: usize = 256;
/// Member that holds the verify token of a preset. It is never returned.
const VERIFY_TOKEN: &str = "verify_token";

impl Verification {
    /// Parses the setting, and names every problem in it.
    ///
    /// A verify token is checked and left out, since settings can be read back. [`VerifyTokenChange::in_patch`] takes it.
    pub(crate) fn read(value: Value, problems: &mut Vec<SettingProblem>) -> Option<Self> {
        let mut form = SettingsForm::new("verification.", value, problems);
        let preset = form.take("preset", &presets());
        let scheme: Option<String> = form.optional("scheme", "hmac, ed25519, shared-secret or basic");
        let read = match (preset, scheme.as_deref()) {
            (Some(preset), None) => Some(Self::Preset { preset }),
            (None, Some("hmac")) => {
                let algorithm = form.required("algorithm", "sha256, sha1 or sha512");
                read_signature(&mut form)
                    .zip(algorithm)
                    .map(|(signature, algorithm)| Self::Scheme(Scheme::Hmac { algorithm, signature }))
            }
            (None, Some("ed25519")) => {
                read_signature(&mut form).map(|signature| Self::Scheme(Scheme::Ed25519 { signature }))
            }
            (None, Some("shared-secret")) => {
                form.header("header").map(|header| Self::Scheme(Scheme::SharedSecret { header }))
            }
            (None, Some("basic")) => Some(Self::Scheme(Scheme::Basic)),
            (None, Some(_)) => {
                form.problem(
                    "scheme",
                    SettingCode::Invalid,
                    "hmac, ed25519, shared-secret or basic is expected".to_owned(),
                );
                return None;
            }
            (Some(_), Some(_)) => {
                let message = "either a preset or a scheme is expected, not both";
                form.problem("scheme", SettingCode::Invalid, message.to_owned());
                return None;
            }
            (None, None) => {
                if !form.has_problem("preset") && !form.has_problem("scheme") {
                    form.problem(
                        "preset",
                        SettingCode::Required,
                        "a preset or a scheme is needed".to_owned(),
                    );
                }
                return None;
            }
        };
        check_verify_token(&mut form, preset);
        form.refuse_the_rest();
        read
    }
}

/// Change of a verify token by a patch of settings.
#[derive(Debug)]
pub(crate) enum VerifyTokenChange {
    /// The patch does not name it.
    Keep,
    /// The patch removes it, or sets a verification without one.
    Remove,
    /// The patch sets it.
    Set(Secret),
}

impl VerifyTokenChange {
    /// Takes the change from a patch whose settings were checked.
    pub(crate) fn in_patch(patch: &Value) -> Self {
        let Some(verification) = patch.get("verification") else { return Self::Keep };
        if verification.get("preset").and_then(Value::as_str) != Some(Preset::Meta.as_str()) {
            return Self::Remove;
        }
        match verification.get(VERIFY_TOKEN) {
            None => Self::Keep,
            Some(token) => {
                token.as_str().and_then(|token| Secret::new(token).ok()).map_or(Self::Remove, Self::Set)
            }
        }
    }
}

fn check_verify_token(form: &mut SettingsForm<'_>, preset: Option<Preset>) {
    let Some(token) = form.optional(VERIFY_TOKEN, "a text") else { return };
    if preset != Some(Preset::Meta) {
        let message = format!("only the preset {} has a verify token", Preset::Meta.as_str());
        form.problem(VERIFY_TOKEN, SettingCode::Invalid, message);
    } else if let Err(error) = Secret::new(token) {
        form.problem(VERIFY_TOKEN, SettingCode::Invalid, error.to_string());
    }
}

fn read_signature(form: &mut SettingsForm<'_>) -> Option<SignatureScheme> {
    let header = form.header("header");
    let encoding = form.required("encoding", "hex or base64");
    let prefix = form.optional("prefix", "a text").filter(|prefix| !prefix.is_empty());
    if prefix.as_ref().is_some_and(|prefix| prefix.len() > PREFIX_BYTES || !is_visible(prefix)) {
        let message = format!("at most {PREFIX_BYTES} visible characters of ASCII are expected");
        form.problem("prefix", SettingCode::Invalid, message);
    }
    let signed = form.optional("signed", "a text").unwrap_or_else(body_alone);
    let timestamp_header = form.optional_header("timestamp_header");
    let id_header = form.optional_header("id_header");
    let tolerance_s = form.whole("tolerance_s", (1, LONGEST_TOLERANCE_S)).unwrap_or_else(default_tolerance_s);
    check_signed(form, &signed, timestamp_header.is_some(), id_header.is_some());
    Some(SignatureScheme {
        header: header?,
        encoding: encoding?,
        prefix,
        signed,
        timestamp_header,
        id_header,
        tolerance_s,
    })
}

fn check_signed(form: &mut SettingsForm<'_>, signed: &str, has_timestamp: bool, has_id: bool) {
    let parts = parts(signed);
    let holds = |place| parts.contains(&Part::Place(place));
    let mut invalid =
        |name: &str, message: &str| form.problem(name, SettingCode::Invalid, message.to_owned());
    if signed.len() > SIGNED_BYTES {
        invalid("signed", &format!("at most {SIGNED_BYTES} bytes are expected"));
    } else if let Some(name) = unknown_place(signed) {
        invalid(
            "signed",
            &format!("{{{name}}} is unknown; there are {{timestamp}}, {{id}}, {{body}} and {{url}}"),
        );
    } else if !holds(Place::Body) {
        invalid("signed", "{body} must be part of what is signed; without it anyone could change the body");
    }
    let touches_id = |pair: &[Part<'_>]| {
        matches!(pair, [Part::Place(Place::Id), Part::Place(_)] | [Part::Place(_), Part::Place(Place::Id)])
    };
    if parts.windows(2).any(touches_id) {
        invalid(
            "signed",
            "{id} needs text between it and its neighbours, which tells where it starts and ends",
        );
    }
    match (holds(Place::Timestamp), has_timestamp) {
        (true, false) => invalid("timestamp_header", "the header with the signed {timestamp} is needed"),
        (false, true) => invalid(
            "timestamp_header",
            "its time is not signed, so it would protect nothing; add {timestamp} to signed",
        ),
        _ => {}
    }
    match (holds(Place::Id), has_id) {
        (true, false) => invalid("id_header", "the header with the signed {id} is needed"),
        (false, true) => invalid("id_header", "its id is not signed; idempotency_from is for such an id"),
        _ => {}
    }
}

/// Returns the names of all presets, for a message.
fn presets() -> String {
    format!("one of {}", Preset::all().map(Preset::as_str).collect::<Vec<_>>().join(", "))
}

fn is_visible(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}
