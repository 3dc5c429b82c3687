//! Checking a signature by its rule.

use std::collections::BTreeMap;
use std::time::SystemTime;

use ed25519_dalek::Signature;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::value::RawValue;
use sha1::Sha1;
use sha2::{Sha256, Sha512};
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

use super::header::required_header;
use super::key::{decode, key_bytes, public_key};
use super::outcome::{Refusal, Verified};
use super::rule::{Algorithm, Encoding, HmacAlgorithm, SignatureRule, Signed, Timestamp, TimestampPlace};
use super::template::{Part, Place, parts};
use super::twilio;
use crate::clock::to_milliseconds;
use crate::raw_call::RawCall;
use crate::secret::Secret;

/// Upper bound on the signatures of one header. Each is checked with every secret, and one of Ed25519 reads the whole body
/// for that.
const SIGNATURES: usize = 8;

/// Checks the signatures of a call: every one of them with every secret, and then the time that is signed.
pub(super) fn check(
    rule: &SignatureRule<'_>,
    call: &RawCall<'_>,
    secrets: &[Secret],
    now: SystemTime,
) -> Result<Verified, Refusal> {
    let header = required_header(call, rule.header)?;
    let signatures = signatures(rule, header)?;
    let id = rule.id_header.map(|name| read_id(name, rule, call)).transpose()?;
    let time =
        rule.timestamp.as_ref().map(|timestamp| read_time(timestamp, rule, call, header)).transpose()?;
    let texts = match rule.signed {
        Signed::UrlAndForm => twilio::signed_texts(call)?,
        Signed::Template(template) => vec![fill(template, call, id, time.as_ref())],
    };
    let keys: Vec<_> = secrets.iter().filter_map(|secret| key_bytes(rule.key, secret.expose())).collect();
    if keys.is_empty() {
        return Err(Refusal::UnusableSecret);
    }
    let mut fits = Choice::from(0);
    for (key, text) in keys.iter().flat_map(|key| texts.iter().map(move |text| (key, text))) {
        fits |= fits_one(rule.algorithm, key, text, &signatures);
    }
    if !bool::from(fits) {
        return Err(Refusal::Mismatch);
    }
    if let (Some(time), Some(timestamp)) = (&time, &rule.timestamp) {
        check_time(time.milliseconds(rule, call)?, timestamp.tolerance_s, now)?;
    }
    Ok(Verified { id: id.map(str::to_owned) })
}

/// Returns whether any of the signatures is one of `text` under `key`.
fn fits_one(algorithm: Algorithm, key: &Zeroizing<Vec<u8>>, text: &[u8], signatures: &[Vec<u8>]) -> Choice {
    let code = match algorithm {
        Algorithm::Hmac(HmacAlgorithm::Sha1) => code::<Hmac<Sha1>>(key, text),
        Algorithm::Hmac(HmacAlgorithm::Sha256) => code::<Hmac<Sha256>>(key, text),
        Algorithm::Hmac(HmacAlgorithm::Sha512) => code::<Hmac<Sha512>>(key, text),
        Algorithm::Ed25519 => {
            let Some(key) = public_key(key) else { return Choice::from(0) };
            let is_signature = |bytes: &Vec<u8>| {
                Signature::from_slice(bytes)
                    .is_ok_and(|signature| key.verify_strict(text, &signature).is_ok())
            };
            return Choice::from(u8::from(signatures.iter().any(is_signature)));
        }
    };
    signatures.iter().fold(Choice::from(0), |fits, signature| fits | signature.as_slice().ct_eq(&code))
}

fn code<M: KeyInit + Mac>(key: &[u8], text: &[u8]) -> Vec<u8> {
    // HMAC takes keys of any length.
    let mut code = <M as KeyInit>::new_from_slice(key).expect("a key");
    code.update(text);
    code.finalize().into_bytes().to_vec()
}

/// Splits a header that lists several parts. A character of the signatures' prefix separates none.
fn listed<'a>(prefix: &str, header: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let separates = |byte: u8| move |prefix: &str| !prefix.as_bytes().contains(&byte);
    let (comma, blank) = (separates(b',')(prefix), separates(b' ')(prefix));
    header
        .split(move |byte| match byte {
            b',' => comma,
            b' ' | b'\t' => blank,
            _ => false,
        })
        .map(<[u8]>::trim_ascii)
        .filter(|part| !part.is_empty())
}

fn signatures(rule: &SignatureRule<'_>, header: &[u8]) -> Result<Vec<Vec<u8>>, Refusal> {
    let prefixed = listed(rule.prefix, header).filter_map(|part| part.strip_prefix(rule.prefix.as_bytes()));
    let signatures: Vec<_> =
        prefixed.filter_map(|text| decode(rule.encoding, text)).take(SIGNATURES + 1).collect();
    if signatures.is_empty() {
        let encoding = match rule.encoding {
            Encoding::Hex => "hexadecimal digits",
            Encoding::Base64 => "base64",
        };
        let expected = format!("{}{encoding}", rule.prefix);
        return Err(Refusal::SignatureMissing { header: rule.header.to_owned(), expected });
    }
    if signatures.len() > SIGNATURES {
        return Err(Refusal::TooManySignatures { header: rule.header.to_owned(), limit: SIGNATURES });
    }
    Ok(signatures)
}

/// Returns the signed id.
///
/// It must leave no doubt about where it starts and ends in the signed text: bytes could move between it and the body under
/// the same signature.
fn read_id<'a>(name: &str, rule: &SignatureRule<'_>, call: &RawCall<'a>) -> Result<&'a str, Refusal> {
    let expected =
        || Refusal::malformed(name, "an id of visible characters, without the text that separates it");
    let id = std::str::from_utf8(required_header(call, name)?).map_err(|_| expected())?;
    let Signed::Template(template) = rule.signed else { return Ok(id) };
    let has_clear_ends = parts(template).windows(2).all(|pair| match pair {
        [Part::Place(Place::Id), Part::Literal(end)] => format!("{id}{end}").find(end) == Some(id.len()),
        [Part::Literal(start), Part::Place(Place::Id)] => format!("{start}{id}").rfind(start) == Some(0),
        _ => true,
    });
    let is_visible = id.bytes().all(|byte| byte.is_ascii_graphic());
    if is_visible && has_clear_ends { Ok(id) } else { Err(expected()) }
}

/// The time of a call before its signature is checked.
enum SignedTime<'a> {
    /// Digits, with the seconds that they stand for.
    Seconds { text: &'a str, seconds: i64 },
    /// In the body, which is read only once its signature is checked.
    InBody(&'a str),
}

impl SignedTime<'_> {
    fn milliseconds(&self, rule: &SignatureRule<'_>, call: &RawCall<'_>) -> Result<i64, Refusal> {
        match self {
            Self::Seconds { seconds, .. } => seconds
                .checked_mul(1_000)
                .ok_or_else(|| Refusal::malformed(rule.header, "a time in seconds since 1970")),
            Self::InBody(name) => {
                let members: Option<BTreeMap<String, &RawValue>> = serde_json::from_slice(call.body).ok();
                let time = members.and_then(|members| members.get(*name)?.get().parse().ok());
                time.ok_or_else(|| {
                    Refusal::malformed(&format!("/{name} in the body"), "a time in milliseconds since 1970")
                })
            }
        }
    }
}

fn read_time<'a>(
    timestamp: &Timestamp<'a>,
    rule: &SignatureRule<'_>,
    call: &RawCall<'a>,
    header: &'a [u8],
) -> Result<SignedTime<'a>, Refusal> {
    let (place, found) = match timestamp.place {
        TimestampPlace::BodyMilliseconds(name) => return Ok(SignedTime::InBody(name)),
        TimestampPlace::Header(name) => (name, Some(required_header(call, name)?)),
        TimestampPlace::InSignature(prefix) => {
            let mut times =
                listed(rule.prefix, header).filter_map(|part| part.strip_prefix(prefix.as_bytes()));
            let first = times.next();
            (rule.header, first.filter(|_| times.next().is_none()))
        }
    };
    let digits = found.and_then(|value| std::str::from_utf8(value).ok());
    let digits = digits.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    match digits.and_then(|text| Some((text, text.parse().ok()?))) {
        Some((text, seconds)) => Ok(SignedTime::Seconds { text, seconds }),
        None => Err(Refusal::malformed(place, "one time in seconds since 1970")),
    }
}

fn fill(template: &str, call: &RawCall<'_>, id: Option<&str>, time: Option<&SignedTime<'_>>) -> Vec<u8> {
    let time = match time {
        Some(SignedTime::Seconds { text, .. }) => text,
        _ => "",
    };
    let mut text = Vec::with_capacity(call.body.len() + template.len() + 256);
    for part in parts(template) {
        text.extend_from_slice(match part {
            Part::Literal(literal) => literal.as_bytes(),
            Part::Place(Place::Timestamp) => time.as_bytes(),
            Part::Place(Place::Id) => id.unwrap_or_default().as_bytes(),
            Part::Place(Place::Body) => call.body,
            Part::Place(Place::Url) => call.url.as_bytes(),
        });
    }
    text
}

/// Checks a signed time. One to come counts as one in the past: it would keep a call valid for longer.
fn check_time(milliseconds: i64, tolerance_s: u32, now: SystemTime) -> Result<(), Refusal> {
    let age = i128::from(to_milliseconds(now)) - i128::from(milliseconds);
    let distance_s = u64::try_from(age.unsigned_abs() / 1_000).unwrap_or(u64::MAX);
    if age.unsigned_abs() <= u128::from(tolerance_s) * 1_000 {
        Ok(())
    } else if age > 0 {
        Err(Refusal::TooOld { age_s: distance_s, tolerance_s })
    } else {
        Err(Refusal::InFuture { ahead_s: distance_s, tolerance_s })
    }
}
