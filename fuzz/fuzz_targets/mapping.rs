//! Takes parameters out of a payload. The first line of an input is a JSON Pointer, the second a media type, and the rest
//! a body.
#![no_main]

use std::collections::BTreeMap;
use std::time::UNIX_EPOCH;

use libfuzzer_sys::fuzz_target;
use webhook_core::mapping::{CallContent, Condition, Conditions, MappingRule, Selector, Test, event_key, overlay};
use webhook_core::parameters::{
    BodyParameters, ParameterBlocks, ParameterLimits, PassThrough, PayloadForms, Pointer, QueryParameters,
    Source, merge_over, parse_payload,
};
use webhook_core::raw_call::RawCall;
use webhook_core::sender::{ReceivedCall, Reception, ReceptionError, SenderSettings};
use webhook_core::verification::{Preset, Verified};

fuzz_target!(|input: &[u8]| {
    let mut lines = input.splitn(3, |byte| *byte == b'\n');
    let mut line = || lines.next().and_then(|line| std::str::from_utf8(line).ok()).unwrap_or_default();
    let (pointer, content_type) = (line(), line());
    let body = lines.next().unwrap_or_default();
    let Ok(pointer) = pointer.parse::<Pointer>() else { return };
    let limits = ParameterLimits::default();
    let forms = PayloadForms::default().with_payload_field();
    let Ok(payload) = parse_payload(Some(content_type), body, &limits, forms) else { return };
    let found = payload.find(&pointer);
    assert_eq!(found.is_none(), payload.missing(&pointer).is_some());

    let raw = RawCall::new("POST", "https://a.example/w", &[], body);
    let query = QueryParameters::default();
    let content = CallContent::new(&raw, &query, &payload);
    let exists = Condition::new(Selector::body(pointer.clone()), Test::Exists(true));
    assert_eq!(exists.is_met(&content), found.is_some());
    if let Some(value) = &found {
        let equals =
            Condition::new(Selector::body(pointer.clone()), Test::Equals(value.clone().into_owned()));
        assert!(equals.is_met(&content));
    }
    for preset in Preset::all() {
        let _ = event_key(None, Some(&preset.into()), &Verified::default(), &content);
    }

    // A preview agrees with the reception of the same call.
    let mut settings = SenderSettings::default();
    settings.conditions = Some(Conditions::new(vec![exists]));
    settings.mapping = vec![MappingRule::new("taken", Selector::body(pointer.clone()))];
    let call = ReceivedCall::new(&raw, &query, Some(content_type));
    let preview = settings.preview(&call, &[], &limits, UNIX_EPOCH);
    match settings.receive(&call, &[], &limits, UNIX_EPOCH) {
        Ok(Reception::Run(_)) => assert!(preview.unmet.is_none() && preview.content.is_ok()),
        Ok(Reception::Ignored(unmet)) => assert_eq!(preview.unmet, Some(unmet)),
        Err(ReceptionError::Body(error)) => assert_eq!(preview.content.err(), Some(error)),
        other => panic!("{other:?}"),
    }

    let rules =
        [MappingRule::new("taken", Selector::body(pointer)), MappingRule::new("raw", Selector::RawBody)];
    let overlay = overlay(&rules, PassThrough::None, &BTreeMap::new(), &content);
    let blocks = ParameterBlocks::default();
    let merged = merge_over(&blocks, &query, &BodyParameters::default(), &overlay, false, &limits);
    if let Ok(merged) = merged {
        let taken = merged.parameters.get("taken");
        assert_eq!(taken.is_some(), found.is_some());
        assert!(taken.is_none_or(|taken| taken.source == Source::Mapping));
    }
});
