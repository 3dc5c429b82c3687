//! Each preset accepts what its sender signs.

use std::collections::BTreeSet;

use super::*;

#[test]
fn every_preset_accepts_the_call_that_its_sender_signs() {
    for call in signed_calls() {
        assert!(call.verify().is_ok(), "{call:?}: {:?}", call.verify());
    }
    let signed: BTreeSet<_> =
        signed_calls().iter().filter_map(|call| Some(call.verification.preset()?.as_str())).collect();
    let unsigned = ["cloudevents", "microsoft-graph"];
    let all: BTreeSet<_> = Preset::all().map(Preset::as_str).collect();
    assert_eq!(signed.into_iter().chain(unsigned).collect::<BTreeSet<_>>(), all);
}

#[test]
fn only_a_signed_id_is_reported() {
    for call in signed_calls() {
        let id = call.verify().unwrap().id;
        let sent =
            call.headers.iter().find(|(name, _)| name.ends_with("-id")).map(|(_, value)| value.clone());
        assert_eq!(id, sent, "{call:?}");
    }
}

#[test]
fn gitlab_may_send_the_secret_itself() {
    let call = Signed::new(Preset::GitLab, KEY, BODY).with("X-Gitlab-Token", KEY);
    assert!(call.verify().is_ok());
    assert_eq!(call.verify_with(&["another-secret"], TIME), Err(Refusal::SecretMismatch));
    assert_eq!(call.verify_with(&[""], TIME), Err(Refusal::SecretMismatch));
    let twice = call.clone().with("x-gitlab-token", KEY);
    assert!(matches!(twice.verify(), Err(Refusal::HeaderRepeated { .. })));
    let without = Signed::new(Preset::GitLab, KEY, BODY);
    assert!(matches!(without.verify(), Err(Refusal::HeaderMissing { .. })));
}

#[test]
fn every_notification_of_microsoft_graph_must_hold_the_secret() {
    let graph = |body: &str| Signed::new(Preset::MicrosoftGraph, KEY, body).verify();
    let item = |state: &str| format!(r#"{{"changeType":"created","clientState":"{state}"}}"#);
    assert!(graph(&format!(r#"{{"value":[{},{}]}}"#, item(KEY), item(KEY))).is_ok());
    assert!(graph(&format!(r#"{{"value":[{}]}}"#, item("secret\\u002dfor-tests"))).is_ok());
    for body in [
        format!(r#"{{"value":[{},{}]}}"#, item(KEY), item("other")),
        format!(r#"{{"value":[{},{{}}]}}"#, item(KEY)),
        format!(r#"{{"value":[{{"clientState":"other","clientState":"{KEY}"}}]}}"#),
        r#"{"value":[{"clientState":null}]}"#.to_owned(),
        r#"{"value":[]}"#.to_owned(),
        "{}".to_owned(),
        String::new(),
    ] {
        assert!(graph(&body).is_err(), "{body}");
    }
    let rotated = Signed::new(Preset::MicrosoftGraph, KEY, &format!(r#"{{"value":[{}]}}"#, item(KEY)));
    assert!(rotated.verify_with(&["another-secret", KEY], TIME).is_ok());
    assert_eq!(rotated.verify_with(&[], TIME), Err(Refusal::NoSecret));
    let empty = Signed::new(Preset::MicrosoftGraph, "", r#"{"value":[{"clientState":""}]}"#);
    assert_eq!(empty.verify(), Err(Refusal::SecretMismatch));
}

#[test]
fn cloudevents_need_no_secret() {
    let call = Signed::new(Preset::CloudEvents, "", BODY);
    assert!(call.verify_with(&[], TIME).is_ok());
    assert!(!call.verification.needs_secret());
    let others = Preset::all().filter(|preset| *preset != Preset::CloudEvents);
    assert!(others.into_iter().all(|preset| Verification::from(preset).needs_secret()));
}

#[test]
fn twilio_signs_the_url_alone_where_there_is_no_body_and_may_name_the_port() {
    let url = "https://mycompany.com/myapp.php?foo=1&bar=2";
    let mut get = Signed::new(Preset::Twilio, "12345", "")
        .to(url)
        .with("X-Twilio-Signature", "zYQTYrRWXE7LtzbG4PfP7/bkkGo=");
    get.method = "GET";
    assert!(get.verify().is_ok());
    assert!(get.clone().to("https://mycompany.com:443/myapp.php?foo=1&bar=2").verify().is_ok());
    assert!(get.clone().to("http://mycompany.com/myapp.php?foo=1&bar=2").verify().is_err());
    let mut with_body = get.clone().with("Content-Type", "application/json");
    with_body.body = b"{}".to_vec();
    assert_eq!(with_body.verify(), Err(Refusal::Mismatch), "nothing signs this body");
}

#[test]
fn a_secret_of_another_form_is_refused_when_it_is_stored() {
    let check = |verification: &Verification, text: &str| {
        verification.check_secret(&Secret::unchecked(text)).map_err(|error| error.to_string())
    };
    let standard = Verification::from(Preset::StandardWebhooks);
    assert_eq!(check(&standard, STANDARD_KEY), Ok(()));
    assert_eq!(check(&standard, "whpk_A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="), Ok(()));
    for bad in [
        "whsec_",
        "whsec_AAEC",
        "not base64 at all",
        "whpk_AAEC",
        "whpk_AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    ] {
        let error = check(&standard, bad).unwrap_err();
        assert!(error.contains("whsec_") || error.contains("public key"), "{error}");
    }
    for preset in Preset::all() {
        let verification = Verification::from(preset);
        let generated = Secret::generate(verification.secret_form().unwrap());
        assert_eq!(check(&verification, generated.expose()), Ok(()), "{preset:?}");
    }
}
