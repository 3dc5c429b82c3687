//! Headers of callers, as they are sent and as they are misspelt.

use super::*;

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&'static str, &str)| (HeaderName::from_static(name), value.parse().unwrap());
    let mut headers = HeaderMap::new();
    for (name, value) in pairs.iter().map(pair) {
        headers.append(name, value);
    }
    headers
}

#[test]
fn a_body_is_announced_by_a_length_or_a_transfer_coding() {
    let announced = |name, value: &str| announces_body(&headers(&[(name, value)]));
    assert!(announced("content-length", "1") && announced("transfer-encoding", "chunked"));
    assert!(!announced("content-length", "0") && !announces_body(&HeaderMap::new()));
}

#[test]
fn a_sane_request_id_is_kept_and_any_other_replaced() {
    assert_eq!(request_id(&headers(&[("x-request-id", "abc-1")])), "abc-1");
    let token = webhook_core::token::Token::generate();
    for bad in ["", "a b", &"x".repeat(129), token.expose()] {
        let id = request_id(&headers(&[("x-request-id", bad)]));
        assert!(id.len() == 36 && id != bad, "{id}");
    }
    assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
}

#[test]
fn a_wait_is_understood_as_rfc_7240_writes_it() {
    let wait = |value: &str| preferred_wait(&headers(&[("prefer", value)])).map(|wait| wait.as_secs());
    assert_eq!(wait("wait=10"), Some(10));
    assert_eq!(wait("respond-async, Wait = \"5\"; foo=1"), Some(5));
    assert_eq!(wait("wait=600"), Some(60));
    assert_eq!(wait("wait=99999999999999999999999"), Some(60));
    assert_eq!(wait("wait=3, wait=9"), Some(3));
    assert_eq!(wait("foo=\"a\\\", b\", wait=4"), Some(4));
    assert_eq!(wait("wait=\"7\"; note=\"a, wait=3\""), Some(7));
    for none in [
        "wait",
        "wait=",
        "wait=-1",
        "wait=1.5",
        "waiting=3",
        "respond-async",
        "foo=\"a, wait=3\"",
        "foo=\"a\\\", wait=3\"",
        "foo; bar=\"; wait=3\"",
    ] {
        assert_eq!(wait(none), None, "{none}");
    }
    let two = headers(&[("prefer", "respond-async"), ("prefer", "wait=2")]);
    assert_eq!(preferred_wait(&two), Some(Duration::from_secs(2)));
}

#[test]
fn a_trace_is_taken_over_only_if_it_is_well_formed() {
    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    assert_eq!(traceparent(&headers(&[("traceparent", GOOD)])), Some(GOOD));
    let later = format!("cc{}-more", &GOOD[2..]);
    assert_eq!(traceparent(&headers(&[("traceparent", &later)])), Some(&later[..55]));
    for bad in [
        "",
        "00",
        &format!("ff{}", &GOOD[2..]),
        &format!("{GOOD}-more"),
        &GOOD.to_uppercase(),
        &GOOD[..54],
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
    ] {
        assert_eq!(traceparent(&headers(&[("traceparent", bad)])), None, "{bad}");
    }
    assert_eq!(traceparent(&headers(&[("traceparent", GOOD), ("traceparent", GOOD)])), None);
}

#[test]
fn a_prefetch_is_recognised_in_all_its_headers() {
    for (name, value) in
        [("purpose", "prefetch"), ("sec-purpose", "prefetch;prerender"), ("x-moz", "Prefetch")]
    {
        assert!(is_prefetch(&headers(&[(name, value)])), "{name}");
    }
    assert!(!is_prefetch(&headers(&[("purpose", "prefetching")])));
}

#[test]
fn who_mistypes_a_dry_run_starts_nothing() {
    let dry = |value: &str| is_dry_run(&headers(&[("webhook-dry-run", value)]));
    assert!(dry("true") && dry("1") && dry("ture") && dry(""));
    assert!(!dry("false") && !dry("0") && !is_dry_run(&HeaderMap::new()));
}

#[test]
fn if_match_names_revisions_that_strong_tags_hold() {
    let expected = |value: &str| if_match(&headers(&[("if-match", value)]));
    assert_eq!(if_match(&HeaderMap::new()), Expected::Any);
    assert_eq!(expected("*"), Expected::Any);
    assert_eq!(expected("\"3\""), Expected::Revisions(vec![3]));
    assert_eq!(expected("\"3\", \"4\""), Expected::Revisions(vec![3, 4]));
    for none in ["W/\"3\"", "3", "\"abc\"", ""] {
        assert_eq!(expected(none), Expected::Revisions(vec![]), "{none}");
    }
}

#[test]
fn a_bearer_token_is_found_whatever_the_case_of_the_scheme() {
    let token =
        |value: &str| bearer(&headers(&[("authorization", value)])).unwrap().map(|token| token.to_string());
    assert_eq!(token("bEaReR abc").as_deref(), Some("abc"));
    assert_eq!(token("Bearer   abc ").as_deref(), Some("abc"));
    assert_eq!(token("Bearer\t abc\t").as_deref(), Some("abc"));
    assert_eq!(token("Basic abc"), None);
    assert_eq!(token("Bearer"), None);
}

#[test]
fn a_repeated_header_must_say_the_same() {
    let twice = |name, one, other| headers(&[(name, one), (name, other)]);
    let tokens = |one, other| bearer(&twice("authorization", one, other));
    assert_eq!(tokens("Bearer a", "bearer a").unwrap().unwrap().as_str(), "a");
    assert_eq!(tokens("Basic b", "Bearer a").unwrap().unwrap().as_str(), "a");
    assert_eq!(tokens("Bearer a", "Bearer b"), Err(TwoTokens));
    let key = |one, other| idempotency_key(&twice("idempotency-key", one, other));
    assert_eq!(key("a", "a").as_deref(), Some("a"));
    assert_eq!(key("a", "b").as_deref(), Some(""), "which is refused");
    assert_eq!(idempotency_key(&HeaderMap::new()), None);
}
