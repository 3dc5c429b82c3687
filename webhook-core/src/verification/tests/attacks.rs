//! Each preset against what attackers try, and what careless receivers accept.

use super::super::rule::{Check, SignatureRule, Timestamp, TimestampPlace};
use super::*;

/// The rule that a signed call fits.
fn rule(call: &Signed) -> SignatureRule<'_> {
    let sent = |name: &str| call.headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name));
    let is_sent = |rule: &SignatureRule<'_>| {
        sent(rule.header) && call.headers.iter().any(|(_, value)| value.contains(rule.prefix))
    };
    let rules = call.verification.checks().into_iter().filter_map(|check| match check {
        Check::Signature(rule) => Some(rule),
        _ => None,
    });
    rules.into_iter().find(is_sent).unwrap()
}

#[test]
fn a_changed_body_is_refused() {
    for call in signed_calls() {
        for place in [0, call.body.len() / 2, call.body.len() - 1] {
            let mut changed = call.clone();
            changed.body[place] ^= 1;
            assert!(changed.verify().is_err(), "{call:?} at {place}");
        }
        let mut longer = call.clone();
        longer.body.push(b' ');
        assert!(longer.verify().is_err(), "{call:?}");
        let mut empty = call.clone();
        empty.body.clear();
        assert!(empty.verify().is_err(), "{call:?}");
    }
}

#[test]
fn a_changed_signature_is_refused_and_so_is_a_part_of_one() {
    for call in signed_calls() {
        let (header, prefix) = (rule(&call).header.to_owned(), rule(&call).prefix.to_owned());
        let mut changed = call.clone();
        let value = changed.value(&header);
        let place = value.find(&prefix).unwrap() + prefix.len();
        let first = if value[place..].starts_with('0') { "1" } else { "0" };
        value.replace_range(place..=place, first);
        assert_eq!(changed.verify(), Err(Refusal::Mismatch), "{call:?}");
        for part in ["", "00", "0000", "AAAA"] {
            let mut cut = call.clone();
            let value = cut.value(&header);
            value.replace_range(place.., part);
            assert!(cut.verify().is_err(), "{cut:?}");
        }
        let mut unprefixed = call.clone();
        if !prefix.is_empty() {
            let value = unprefixed.value(&header);
            *value = value.replace(&prefix, "");
            assert!(unprefixed.verify().is_err(), "{call:?}");
        }
    }
}

#[test]
fn an_old_time_and_a_time_to_come_are_refused_alike() {
    let mut timed = 0;
    for call in signed_calls() {
        let Some(Timestamp { tolerance_s, .. }) = rule(&call).timestamp else {
            assert!(call.verify_with(&[call.secret], call.at + 1_000_000).is_ok(), "{call:?}");
            continue;
        };
        timed += 1;
        let tolerance = u64::from(tolerance_s);
        let at = |seconds| call.verify_with(&[call.secret], seconds);
        assert!(at(call.at + tolerance).is_ok() && at(call.at - tolerance).is_ok(), "{call:?}");
        assert!(matches!(at(call.at + tolerance + 1), Err(Refusal::TooOld { .. })), "{call:?}");
        assert!(matches!(at(call.at - tolerance - 1), Err(Refusal::InFuture { .. })), "{call:?}");
        // The time means nothing where the signature is wrong.
        let unsigned = call.verify_with(&["another-secret", STANDARD_KEY_2, PUBLIC_KEY_2], call.at + 1_000);
        assert_eq!(unsigned, Err(Refusal::Mismatch), "{call:?}");
    }
    assert!(timed >= 7, "{timed}");
}

/// A key of the right form that signed nothing.
const STANDARD_KEY_2: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const PUBLIC_KEY_2: &str = "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";

#[test]
fn a_time_that_was_moved_is_refused() {
    for call in signed_calls() {
        let mut moved = call.clone();
        match rule(&call).timestamp.map(|timestamp| timestamp.place) {
            Some(TimestampPlace::Header(name)) => *moved.value(name) = (call.at + 10).to_string(),
            Some(TimestampPlace::InSignature(prefix)) => {
                let value = moved.value(rule(&call).header);
                *value = value.replace(&format!("{prefix}{}", call.at), &format!("{prefix}{}", call.at + 10));
            }
            _ => continue,
        }
        assert_eq!(moved.verify(), Err(Refusal::Mismatch), "{moved:?}");
    }
}

#[test]
fn a_time_that_is_no_number_or_missing_is_refused() {
    for call in signed_calls() {
        let Some(timestamp) = rule(&call).timestamp else { continue };
        let TimestampPlace::Header(name) = timestamp.place else { continue };
        for text in ["", "now", "1e9", "-1700000000", "+1700000000", "99999999999999999999", "17000 00000"] {
            let mut other = call.clone();
            *other.value(name) = text.to_owned();
            assert!(
                matches!(other.verify(), Err(Refusal::Malformed { .. } | Refusal::HeaderMissing { .. })),
                "{other:?}"
            );
        }
    }
    let stripe = signed_calls().into_iter().find(|call| call.verification == Preset::Stripe.into()).unwrap();
    for replacement in ["", "t=now", "t=1700000000,t=1700000000"] {
        let mut other = stripe.clone();
        let value = other.value("Stripe-Signature");
        *value = value.replace("t=1700000000", replacement);
        assert!(matches!(other.verify(), Err(Refusal::Malformed { .. })), "{other:?}");
    }
}

#[test]
fn a_time_in_the_body_is_a_whole_number_of_milliseconds() {
    let linear = |time: &str| {
        let body = format!(r#"{{"action":"create","webhookTimestamp":{time}}}"#);
        Signed::new(Preset::Linear, KEY, &body).with("Linear-Signature", mac(&body)).verify()
    };
    assert!(linear("1700000000000").is_ok());
    for odd in [
        "\"1700000000000\"",
        "1.7e12",
        "1700000000000.0",
        "null",
        "99999999999999999999",
        "[1700000000000]",
        "1700000000000,\"webhookTimestamp\":\"x\"",
    ] {
        assert!(matches!(linear(odd), Err(Refusal::Malformed { .. })), "{odd}");
    }
    assert!(matches!(linear("-1700000000000"), Err(Refusal::TooOld { .. })));
    assert!(matches!(linear("-9223372036854775808"), Err(Refusal::TooOld { .. })));
    assert!(matches!(linear("9223372036854775807"), Err(Refusal::InFuture { .. })));
}

#[test]
fn the_latest_second_that_a_number_holds_is_refused_without_an_overflow() {
    let time = "9223372036854775807";
    let slack = Signed::new(Preset::Slack, KEY, BODY)
        .with("X-Slack-Request-Timestamp", time)
        .with("X-Slack-Signature", format!("v0={}", mac(&format!("v0:{time}:{BODY}"))));
    assert!(matches!(slack.verify(), Err(Refusal::Malformed { .. })), "{:?}", slack.verify());
}

/// Each spelling stands for the right bytes to a careless decoder.
#[test]
fn a_signature_has_one_alphabet() {
    for call in signed_calls() {
        let (header, prefix) = (rule(&call).header.to_owned(), rule(&call).prefix.to_owned());
        let value = call.clone().value(&header).clone();
        let start = value.find(&prefix).unwrap() + prefix.len();
        let length = value[start..].find([',', ' ']).unwrap_or(value.len() - start);
        let signature = &value[start..start + length];
        let wide: String = signature
            .chars()
            .map(|it| if it.is_ascii_digit() { char::from_u32(it as u32 + 0xfee0).unwrap() } else { it })
            .collect();
        let mut spellings =
            vec![wide, format!("%{signature}"), format!("\"{signature}\""), format!("{signature};")];
        match rule(&call).encoding {
            Encoding::Hex => spellings.extend([format!("0x{signature}"), signature.replacen('a', "%61", 1)]),
            Encoding::Base64 => {
                spellings.push(format!("{signature}="));
                spellings.push(format!("{}\t{}", &signature[..8], &signature[8..]));
                spellings.push(signature.replace('+', "-").replace('/', "_"));
            }
        }
        for spelling in spellings.into_iter().filter(|spelling| spelling != signature) {
            let mut other = call.clone();
            other.value(&header).replace_range(start..start + length, &spelling);
            assert!(other.verify().is_err(), "{other:?}");
        }
    }
}

#[test]
fn of_several_signatures_each_is_tried() {
    for call in signed_calls() {
        let header = rule(&call).header.to_owned();
        let (prefix, separator) = match rule(&call).prefix {
            prefix if prefix.contains(',') => (prefix.to_owned(), " "),
            prefix => (prefix.to_owned(), ","),
        };
        let wrong = match rule(&call).encoding {
            Encoding::Hex => format!("{prefix}{}", "00".repeat(32)),
            Encoding::Base64 => format!("{prefix}{}", "AAAA".repeat(8)),
        };
        let mut before = call.clone();
        let value = before.value(&header);
        *value = format!("{wrong}{separator}{value}");
        assert!(before.verify().is_ok(), "{before:?}");
        let mut behind = call.clone();
        let value = behind.value(&header);
        *value = format!("{value}{separator}{wrong}{separator}{wrong}");
        assert!(behind.verify().is_ok(), "{behind:?}");
        let mut many = call.clone();
        let value = many.value(&header);
        *value = format!("{}{value}", format!("{wrong}{separator}").repeat(8));
        assert!(matches!(many.verify(), Err(Refusal::TooManySignatures { .. })), "{many:?}");
        let mut alone = call.clone();
        *alone.value(&header) = wrong;
        assert!(alone.verify().is_err(), "{alone:?}");
    }
}

#[test]
fn without_a_secret_and_with_an_empty_one_everything_is_refused() {
    for call in signed_calls() {
        assert_eq!(call.verify_with(&[], call.at), Err(Refusal::NoSecret), "{call:?}");
        for empty in ["", "whsec_", "whpk_"] {
            assert!(call.verify_with(&[empty], call.at).is_err(), "{call:?}");
        }
    }
    // Signed with an empty key, as anyone can.
    let nothing = "sha256=fb011e6154a19b9a4c767373c305275a5a69e8b68b0b4c9200c383dced19a416";
    let call = Signed::new(Preset::GitHub, "", "The quick brown fox jumps over the lazy dog")
        .with("X-Hub-Signature-256", nothing);
    assert_eq!(call.verify(), Err(Refusal::UnusableSecret));
}

#[test]
fn while_a_secret_is_replaced_both_are_accepted_and_no_third() {
    for call in signed_calls() {
        for other in ["another-secret", STANDARD_KEY_2, PUBLIC_KEY_2] {
            assert!(call.verify_with(&[other, call.secret], call.at).is_ok(), "{call:?}");
            assert!(call.verify_with(&[call.secret, other], call.at).is_ok(), "{call:?}");
            assert!(call.verify_with(&[other, other], call.at).is_err(), "{call:?}");
        }
    }
}

#[test]
fn a_header_that_is_looked_at_must_be_there_once() {
    for call in signed_calls() {
        let SignatureRule { header, id_header, timestamp, .. } = rule(&call);
        let time = timestamp.and_then(|timestamp| match timestamp.place {
            TimestampPlace::Header(name) => Some(name),
            _ => None,
        });
        for name in [Some(header), id_header, time].into_iter().flatten() {
            let (given, value) =
                call.headers.iter().find(|(given, _)| given.eq_ignore_ascii_case(name)).cloned().unwrap();
            for value in [value.as_str(), "other", ""] {
                let twice = call.clone().with(given, value);
                assert!(matches!(twice.verify(), Err(Refusal::HeaderRepeated { .. })), "{twice:?}");
            }
            let mut missing = call.clone();
            missing.headers.retain(|(other, _)| *other != given);
            assert!(matches!(missing.verify(), Err(Refusal::HeaderMissing { .. })), "{missing:?}");
        }
    }
}

#[test]
fn a_public_key_never_becomes_the_key_of_an_hmac() {
    // HMAC-SHA256 with the bytes of the public key, which everyone knows.
    let mut call = signed_calls().into_iter().find(|call| call.secret.starts_with("whpk_")).unwrap();
    *call.value("webhook-signature") = "v1,4dYmEdg8mVJNPqUbBtMwHpdlKqv++9ZLLg5PovPSMm0=".to_owned();
    assert_eq!(call.verify(), Err(Refusal::UnusableSecret));
}

#[test]
fn bytes_cannot_move_from_the_body_into_the_id() {
    let call = Signed::new(Preset::StandardWebhooks, STANDARD_KEY, "1700000100.{}")
        .with("webhook-id", "msg_1")
        .with("webhook-timestamp", "1700000000")
        .with("webhook-signature", "v1,HqnjntP4UxoS5wJCA7xMH4bpZaI2eA1k54JVJUqEpgk=");
    assert!(call.verify().is_ok());
    let mut shifted = call.clone();
    *shifted.value("webhook-id") = "msg_1.1700000000".to_owned();
    *shifted.value("webhook-timestamp") = "1700000100".to_owned();
    shifted.body = b"{}".to_vec();
    assert!(matches!(shifted.verify(), Err(Refusal::Malformed { .. })), "{:?}", shifted.verify());
}

#[test]
fn two_families_of_headers_never_mix() {
    let call = signed_calls().pop().unwrap();
    let mixed = call.clone().with("webhook-id", "msg_other");
    assert_eq!(mixed.verify().unwrap().id.as_deref(), Some("msg_p5jXN8AQM9LWM0D4loKWxJek"));
    let mut borrowed = call.clone();
    borrowed.headers.retain(|(name, _)| *name != "svix-id");
    let borrowed = borrowed.with("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek");
    assert!(borrowed.verify().is_err());
}

#[test]
fn a_refusal_shows_nothing_that_the_call_or_a_secret_holds() {
    for call in signed_calls() {
        let mut canary = call.clone();
        for (_, value) in &mut canary.headers {
            *value = format!("canary{value}");
        }
        let shown = canary.verify_with(&["canary-secret"], call.at).unwrap_err();
        assert!(!format!("{shown} {shown:?}").contains("canary"), "{shown}");
    }
}
