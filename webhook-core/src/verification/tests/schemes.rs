//! Schemes that a webhook's owner describes.

use serde_json::{Value, json};

use super::*;
use crate::webhook::{SettingCode, SettingProblem};

fn read(value: Value) -> Result<Verification, Vec<SettingProblem>> {
    let mut problems = Vec::new();
    match Verification::read(value, &mut problems) {
        Some(read) if problems.is_empty() => Ok(read),
        _ => Err(problems),
    }
}

fn fields(value: Value) -> Vec<String> {
    read(value).unwrap_err().into_iter().map(|problem| problem.field).collect()
}

fn hmac(algorithm: &str, encoding: &str, signed: &str) -> Value {
    json!({"scheme": "hmac", "algorithm": algorithm, "header": "X-Sig", "encoding": encoding, "signed": signed})
}

#[test]
fn what_senders_without_a_preset_sign_can_be_described() {
    let call =
        |scheme, signature: &str| Signed::new(read(scheme).unwrap(), KEY, BODY).with("x-sig", signature);
    // Square and Zoom, computed by their rules; SHA-512 computed with Python's hmac.
    let square =
        call(hmac("sha256", "base64", "{url}{body}"), "JyCbDN4qCP4kNbmZsyJYgnoWrCoSi7Fq6e06z8/HKjw=");
    assert!(square.verify().is_ok());
    assert!(square.to("https://hooks.example.com/w/2").verify().is_err());
    let long = call(
        hmac("sha512", "hex", "{body}"),
        "d61fdcc154d4b84ddbee833fcb978044c05ec51b97bfa8a1065123995b3768c256200ee9b07cf83adddf0cf1d98f1d911cbdf3bbb2a3d68872073c815189cc73",
    );
    assert!(long.verify().is_ok());
    let mut zoom = hmac("sha256", "hex", "v0:{timestamp}:{body}");
    zoom["prefix"] = "v0=".into();
    zoom["timestamp_header"] = "X-Time".into();
    let zoom = call(zoom, "v0=18f74adc765210cdd34a5a1c7340f6cc25cd92855a2c7d60ddfc4e1793658d02")
        .with("X-Time", "1700000000");
    assert!(zoom.verify().is_ok());
    assert!(matches!(
        zoom.verify_with(&[KEY], TIME + 301),
        Err(Refusal::TooOld { age_s: 301, tolerance_s: 300 })
    ));
    let mut with_id = hmac("sha256", "hex", "{id}|{timestamp}|{body}");
    with_id["id_header"] = "X-Id".into();
    with_id["timestamp_header"] = "X-Time".into();
    with_id["tolerance_s"] = 10.into();
    let with_id = call(with_id, "ca65201cb4dadda9ba0d5f8c6745d6d4a3d8ad982e38ed7493562dcf5c51e2ed")
        .with("X-Time", "1700000000")
        .with("X-Id", "evt-1");
    assert_eq!(with_id.verify().unwrap().id.as_deref(), Some("evt-1"));
    assert!(matches!(with_id.verify_with(&[KEY], TIME + 11), Err(Refusal::TooOld { .. })));
}

/// Two calls whose parts differ sign the same text, so a captured call would count as a new event.
#[test]
fn bytes_move_neither_into_a_signed_id_nor_out_of_it() {
    let call = |signed: &str, id: &str, body: &str| {
        let mut scheme = hmac("sha256", "hex", signed);
        scheme["id_header"] = "X-Id".into();
        let text = signed.replace("{id}", id).replace("{body}", body);
        Signed::new(read(scheme).unwrap(), KEY, body).with("X-Id", id).with("X-Sig", mac(&text))
    };
    for (signed, right, moved) in [
        ("{body}.{id}", ("evt_1", "rate=1.5"), ("5.evt_1", "rate=1")),
        ("{body}::{id}", ("evt_1", "a=::b"), ("b::evt_1", "a=")),
        ("{id}.{body}", ("evt_1", "a=1.5"), ("evt_1.a=1", "5")),
        // The separator begins as it ends, so it can be found one byte earlier or later.
        ("{id}--{body}", ("evt_1", "-a=1"), ("evt_1-", "a=1")),
        ("{body}--{id}", ("evt_1", "a=1-"), ("-evt_1", "a=1")),
    ] {
        let call = |(id, body)| call(signed, id, body);
        let (right, moved) = (call(right), call(moved));
        assert_eq!(right.headers[1], moved.headers[1], "{signed}: both sign the same text");
        assert_eq!(right.verify().unwrap().id.as_deref(), Some("evt_1"), "{signed}");
        assert!(matches!(moved.verify(), Err(Refusal::Malformed { .. })), "{signed}: {:?}", moved.verify());
    }
}

#[test]
fn discord_signs_with_a_private_key() {
    let scheme = json!({"scheme": "ed25519", "header": "X-Signature-Ed25519", "encoding": "hex",
        "signed": "{timestamp}{body}", "timestamp_header": "X-Signature-Timestamp"});
    let verification = read(scheme).unwrap();
    let key = "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8";
    let signature = "fd68416d913f7eac6f0b5bcf45653bdb18076f577bbab65b00c6bc03c811d4e4\
        b99d729104cb520fdfd6e58815e6f932e8005f6b4788f4a97b8e06e21fc16207";
    let call = Signed::new(verification.clone(), key, r#"{"version":1,"application_id":"1","type":0}"#)
        .with("X-Signature-Ed25519", signature)
        .with("X-Signature-Timestamp", "1700000000");
    assert!(call.verify().is_ok());
    let mut changed = call.clone();
    changed.body[0] = b'[';
    assert_eq!(changed.verify(), Err(Refusal::Mismatch));
    assert_eq!(call.verify_with(&["a-text-that-is-no-key"], TIME), Err(Refusal::UnusableSecret));
    assert!(verification.secret_form().is_none(), "only the sender has the private key");
    assert!(verification.check_secret(&Secret::unchecked(key)).is_ok());
    assert!(verification.check_secret(&Secret::unchecked(KEY)).is_err());
}

#[test]
fn a_secret_in_a_header_and_a_password_are_compared_as_they_are() {
    let shared = read(json!({"scheme": "shared-secret", "header": "X-Api-Key"})).unwrap();
    let call = Signed::new(shared, KEY, BODY).with("x-api-key", KEY);
    assert!(call.verify().is_ok());
    assert_eq!(call.verify_with(&["secret-for-test"], TIME), Err(Refusal::SecretMismatch));
    let basic = Signed::new(read(json!({"scheme": "basic"})).unwrap(), "user:secret-for-tests", BODY);
    let with = |header: &str| basic.clone().with("Authorization", header).verify();
    assert!(with("Basic dXNlcjpzZWNyZXQtZm9yLXRlc3Rz").is_ok());
    assert!(with("basic  dXNlcjpzZWNyZXQtZm9yLXRlc3Rz").is_ok());
    assert_eq!(with("Basic dXNlcjpzZWNyZXQtZm9yLXRlc3Ry"), Err(Refusal::SecretMismatch));
    for bad in ["Bearer dXNlcjpzZWNyZXQtZm9yLXRlc3Rz", "Basic", "Basic user:secret-for-tests"] {
        assert!(matches!(with(bad), Err(Refusal::Malformed { .. })), "{bad}");
    }
    let check = |text: &str| basic.verification.check_secret(&Secret::unchecked(text)).is_ok();
    assert!(check("user:secret") && !check("user-secret") && !check(":secret") && !check("user:"));
}

#[test]
fn the_setting_reads_back_as_it_was_written() {
    let mut whole = hmac("sha1", "hex", "{id}.{timestamp}.{body}");
    whole["prefix"] = "sha1=".into();
    whole["id_header"] = "X-Id".into();
    whole["timestamp_header"] = "X-Time".into();
    whole["tolerance_s"] = 60.into();
    for setting in [
        json!({"preset": "github"}),
        json!({"preset": "microsoft-graph"}),
        json!({"scheme": "basic"}),
        json!({"scheme": "shared-secret", "header": "X-Api-Key"}),
        whole,
    ] {
        let verification = read(setting.clone()).unwrap();
        assert_eq!(serde_json::to_value(&verification).unwrap(), setting);
        assert_eq!(serde_json::from_value::<Verification>(setting).unwrap(), verification);
    }
}

#[test]
fn what_cannot_be_meant_is_refused_when_it_is_saved() {
    let field = |name: &str| vec![format!("verification.{name}")];
    assert_eq!(fields(json!({})), field("preset"));
    assert_eq!(fields(json!({"preset": "githup"})), field("preset"));
    assert_eq!(fields(json!({"preset": "github", "scheme": "basic"})), field("scheme"));
    assert_eq!(fields(json!({"preset": "github", "secret": "x"})), field("secret"));
    assert_eq!(fields(json!({"scheme": "rot13"})), field("scheme"));
    assert_eq!(fields(json!({"scheme": "shared-secret", "header": "X Key"})), field("header"));
    assert_eq!(
        fields(json!({"scheme": "hmac"})),
        ["algorithm", "header", "encoding"].map(|name| format!("verification.{name}"))
    );
    assert_eq!(fields(hmac("md5", "hex", "{body}")), field("algorithm"));
    assert_eq!(fields(hmac("sha256", "base32", "{body}")), field("encoding"));
    assert_eq!(fields(hmac("sha256", "hex", "{url}")), field("signed"));
    assert_eq!(fields(hmac("sha256", "hex", "{body}{nonce}")), field("signed"));
    assert_eq!(fields(hmac("sha256", "hex", &"{body}".repeat(50))), field("signed"));
    assert_eq!(fields(hmac("sha256", "hex", "{timestamp}.{body}")), field("timestamp_header"));
    assert_eq!(fields(hmac("sha256", "hex", "{id}.{body}")), field("id_header"));
    let mut unsigned_time = hmac("sha256", "hex", "{body}");
    unsigned_time["timestamp_header"] = "X-Time".into();
    unsigned_time["tolerance_s"] = 0.into();
    assert_eq!(fields(unsigned_time), ["verification.tolerance_s", "verification.timestamp_header"]);
    let mut unsigned_id = hmac("sha256", "hex", "{body}");
    unsigned_id["id_header"] = "X-Id".into();
    assert_eq!(fields(unsigned_id), field("id_header"));
    for prefix in ["a\u{7f}", "é=", &"a".repeat(65)] {
        let mut prefixed = hmac("sha256", "hex", "{body}");
        prefixed["prefix"] = prefix.into();
        assert_eq!(fields(prefixed), field("prefix"), "{prefix}");
    }
    for endless in ["{id}{body}", "{body}{id}", "{url}{id}.{body}"] {
        let mut endless_id = hmac("sha256", "hex", endless);
        endless_id["id_header"] = "X-Id".into();
        assert_eq!(fields(endless_id), field("signed"), "{endless}");
    }
    assert_eq!(read(json!("github")).unwrap_err()[0].code, SettingCode::WrongType);
}
