//! Properties that must hold for every call, whatever its bytes.

use proptest::prelude::*;
use serde_json::{Map, Value};

use super::{FORM, encoded};
use crate::parameters::*;

const CANARY: &str = "canary7391";

fn any_type() -> impl Strategy<Value = ParameterType> {
    prop::sample::select(vec![
        ParameterType::Text,
        ParameterType::Integer,
        ParameterType::Number,
        ParameterType::Boolean,
        ParameterType::Date,
        ParameterType::Datetime,
        ParameterType::Choice,
        ParameterType::List,
        ParameterType::Json,
    ])
}

fn block(name: &str, parameter_type: ParameterType) -> ParameterBlock {
    let block = ParameterBlock::new(name, parameter_type);
    if parameter_type == ParameterType::Choice { block.with_choices(["a", "b"]) } else { block }
}

fn any_json() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1_000_000_i32..1_000_000).prop_map(|whole| Value::from(f64::from(whole) / 8.0)),
        any::<String>().prop_map(Value::from),
    ];
    scalar.prop_recursive(5, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn encoded_pairs(pairs: &[(String, String)]) -> String {
    let pairs: Vec<_> =
        pairs.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
    pairs.join("&")
}

/// Groups values by name: ordered by name, the values in the order given.
fn grouped(pairs: &[(String, String)]) -> std::collections::BTreeMap<&str, Vec<&str>> {
    let mut groups = std::collections::BTreeMap::<&str, Vec<&str>>::new();
    for (name, value) in pairs {
        groups.entry(name).or_default().push(value);
    }
    groups
}

proptest! {
    #[test]
    fn a_call_of_any_bytes_is_answered_without_panic(
        raw in "(([abp]|%[0-9a-f]{2}|token|®ion|\\PC)(=|&|%|\\+|\\PC){0,3}){0,12}",
        content_type in prop::option::of(prop_oneof![
            Just(FORM.to_owned()),
            Just("application/json".to_owned()),
            ".{0,40}",
        ]),
        bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            "\\{(\"[abp]\":([0-9]{1,22}|\"\\PC{0,9}\"|null|\\[\\]),?){0,4}\\}".prop_map(String::into_bytes),
        ],
        parameter_type in any_type(),
        strict in any::<bool>(),
    ) {
        let limits = ParameterLimits::default();
        let blocks = ParameterBlocks::new(vec![block("p", parameter_type)]).unwrap();
        let query = parse_query(&raw).map(|parsed| parsed.parameters).unwrap_or_default();
        let body = parse_body(content_type.as_deref(), &bytes, &limits).unwrap_or_default();
        match merge(&blocks, &query, &body, strict, &limits) {
            Ok(merged) => prop_assert!(!strict || merged.parameters.len() <= 1),
            Err(problems) => prop_assert!(!problems.is_empty()),
        }
    }

    #[test]
    fn default_yields_to_query_and_query_to_body(
        default in any::<i64>(),
        in_query in prop::option::of(any::<i64>()),
        in_body in prop::option::of(prop::option::of(any::<i64>())),
    ) {
        let blocks = ParameterBlocks::new(vec![
            ParameterBlock::new("p", ParameterType::Integer).with_default(default),
        ])
        .unwrap();
        let raw = in_query.map(|value| format!("p={value}")).unwrap_or_default();
        let members: Map<_, _> = in_body.iter().map(|value| ("p".to_owned(), Value::from(*value))).collect();
        let merged = merge(
            &blocks,
            &parse_query(&raw).unwrap().parameters,
            &BodyParameters::from_object(members),
            true,
            &ParameterLimits::default(),
        )
        .unwrap()
        .parameters;
        let expected = match (in_body.flatten(), in_query) {
            (Some(value), _) => EffectiveParameter::new(value, Source::Body),
            (None, Some(value)) => EffectiveParameter::new(value, Source::Query),
            (None, None) => EffectiveParameter::new(default, Source::Default),
        };
        prop_assert_eq!(merged.get("p"), Some(&expected));
    }

    #[test]
    fn every_integer_survives_its_text(value in any::<i64>(), parameter_type in prop::sample::select(vec![
        ParameterType::Integer, ParameterType::Number, ParameterType::Json,
    ])) {
        let blocks = ParameterBlocks::new(vec![block("p", parameter_type)]).unwrap();
        let query = parse_query(&format!("p={value}")).unwrap().parameters;
        let merged = merge(&blocks, &query, &BodyParameters::default(), true, &ParameterLimits::default());
        let merged = merged.unwrap().parameters;
        prop_assert_eq!(&merged.get("p").unwrap().value, &Value::from(value));
    }

    #[test]
    fn every_double_survives_its_text(value in any::<f64>()) {
        let blocks = ParameterBlocks::new(vec![block("p", ParameterType::Number)]).unwrap();
        let query = parse_query(&format!("p={value:e}")).unwrap().parameters;
        let merged = merge(&blocks, &query, &BodyParameters::default(), true, &ParameterLimits::default());
        match merged {
            Ok(merged) => {
                let held = merged.parameters.get("p").unwrap().value.as_f64().unwrap();
                prop_assert_eq!(held.to_bits(), value.to_bits());
            }
            Err(_) => prop_assert!(!value.is_finite()),
        }
    }

    #[test]
    fn every_double_survives_a_body_the_store_and_the_way_back(bits in any::<u64>()) {
        let double = f64::from_bits(bits);
        prop_assume!(double.is_finite());
        let limits = ParameterLimits::default();
        let blocks = ParameterBlocks::new(vec![block("p", ParameterType::Number)]).unwrap();
        let body = format!("{{\"p\":{double:e},\"q\":[{double:?}]}}");
        let body = parse_body(Some("application/json"), body.as_bytes(), &limits).unwrap();
        let merged = merge(&blocks, &QueryParameters::default(), &body, false, &limits).unwrap().parameters;
        let id = crate::id::RunId::generate(std::time::SystemTime::UNIX_EPOCH);
        let kept = crate::run::RunParameters::seal(merged, None, id).unwrap();
        let stored = serde_json::to_vec(&kept).unwrap();
        let read: crate::run::RunParameters = serde_json::from_slice(&stored).unwrap();
        prop_assert_eq!(&read, &kept);
        let read = read.open(None, id).unwrap();
        let held = [&read.get("p").unwrap().value, &read.get("q").unwrap().value[0]];
        for value in held {
            prop_assert_eq!(value.as_f64().unwrap().to_bits(), double.to_bits());
        }
    }

    #[test]
    fn every_json_that_is_accepted_is_read_back_the_same(value in any_json(), levels in 0..70_usize) {
        let limits = ParameterLimits::default().with_json_depth(usize::MAX);
        let nested = (0..levels).fold(value, |inner, _| Value::from(vec![inner]));
        let body = BodyParameters::from_object(Map::from_iter([("p".to_owned(), nested)]));
        let blocks = ParameterBlocks::default();
        if let Ok(merged) = merge(&blocks, &QueryParameters::default(), &body, false, &limits) {
            let id = crate::id::RunId::generate(std::time::SystemTime::UNIX_EPOCH);
            let kept = crate::run::RunParameters::seal(merged.parameters, None, id).unwrap();
            // As deep as an answer or a record of a store may put it.
            let outer = format!("{}{}{}", "[".repeat(20), serde_json::to_string(&kept).unwrap(), "]".repeat(20));
            prop_assert!(serde_json::from_str::<Value>(&outer).is_ok());
            let read: crate::run::RunParameters = serde_json::from_str(&serde_json::to_string(&kept).unwrap()).unwrap();
            prop_assert_eq!(read, kept);
        }
    }

    #[test]
    fn an_encoded_query_decodes_to_what_was_encoded(
        pairs in prop::collection::vec(("\\PC{1,8}|token|[\u{0}-\u{1f}&=+% ]{1,4}", any::<String>()), 0..8),
    ) {
        let parsed = parse_query(&encoded_pairs(&pairs)).unwrap();
        let (tokens, others): (Vec<_>, Vec<_>) = pairs.into_iter().partition(|(name, _)| name == "token");
        let tokens: Vec<_> = tokens.iter().map(|(_, value)| value.as_str()).collect();
        prop_assert_eq!(parsed.tokens.iter().map(|token| token.as_str()).collect::<Vec<_>>(), tokens);
        prop_assert_eq!(parsed.parameters.len(), others.len());
        let decoded: Vec<_> =
            parsed.parameters.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        prop_assert_eq!(decoded, others);
    }

    #[test]
    fn canonical_bytes_are_equal_exactly_when_every_name_has_the_same_values(
        one in prop::collection::vec(("[ab]{1,2}", "[ab]{0,2}"), 0..5),
        other in prop::collection::vec(("[ab]{1,2}", "[ab]{0,2}"), 0..5),
        seed in any::<u64>(),
    ) {
        let canonical = |pairs: &[(String, String)]| parse_query(&encoded_pairs(pairs)).unwrap().parameters.canonical();
        prop_assert_eq!(canonical(&one) == canonical(&other), grouped(&one) == grouped(&other));
        let mut moved = one.clone();
        if !moved.is_empty() {
            let middle = seed as usize % moved.len();
            moved.rotate_left(middle);
        }
        prop_assert_eq!(canonical(&one) == canonical(&moved), grouped(&one) == grouped(&moved));
    }

    #[test]
    fn the_strict_reader_agrees_with_serde_json_where_no_name_is_repeated(value in any_json()) {
        let text = value.to_string();
        let expected: Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(read_json(text.as_bytes(), &ParameterLimits::default()), Ok(expected.clone()));
        let pretty = serde_json::to_string_pretty(&value).unwrap();
        prop_assert_eq!(read_json(pretty.as_bytes(), &ParameterLimits::default()), Ok(expected));
    }

    #[test]
    fn the_strict_reader_takes_nothing_that_serde_json_refuses(text in "[\\[\\]{}:,\"a0-9.eE+\\- \\\\]{0,16}") {
        if let Ok(value) = read_json(text.as_bytes(), &ParameterLimits::default()) {
            prop_assert_eq!(serde_json::from_str::<Value>(&text).ok(), Some(value));
        }
    }

    #[test]
    fn an_object_with_a_repeated_name_is_refused(
        members in prop::collection::btree_map(any::<String>(), any_json(), 1..6),
        which in any::<prop::sample::Index>(),
        nested in any::<bool>(),
    ) {
        let mut written: Vec<_> =
            members.iter().map(|(name, value)| format!("{}:{value}", Value::from(name.as_str()))).collect();
        written.push(written[which.index(written.len())].clone());
        let object = format!("{{{}}}", written.join(","));
        let text = if nested { format!("[0,{{\"x\":{object}}}]") } else { object };
        let refused = matches!(read_json(text.as_bytes(), &ParameterLimits::default()), Err(StrictJsonError::DuplicateName { .. }));
        prop_assert!(refused);
    }

    #[test]
    fn no_problem_shows_a_secret_value(
        parameter_type in any_type(),
        before in "\\PC{0,6}|\\{\"|\\[|5|2026-01-01®",
        after in "\\PC{0,6}|\":1,|=",
        repeated in any::<bool>(),
        shape in 0..6,
        strict in any::<bool>(),
    ) {
        let limits = ParameterLimits::default();
        let blocks = ParameterBlocks::new(vec![block("p", parameter_type).secret()]).unwrap();
        let value = format!("{before}{CANARY}{after}");
        let pair = format!("p={}", encoded(&value));
        let pairs = if repeated { format!("{pair}&{pair}") } else { pair };
        let json = match shape {
            0 => serde_json::json!({ "p": value }),
            1 => serde_json::json!({ "p": [value] }),
            2 => serde_json::json!({ "p": { value: 1 } }),
            _ => serde_json::json!({}),
        };
        let (query, body) = match shape {
            0..=2 => (String::new(), BodyParameters::from_object(json.as_object().cloned().unwrap())),
            3 | 4 => (pairs, BodyParameters::default()),
            _ => (String::new(), parse_body(Some(FORM), pairs.as_bytes(), &limits).unwrap()),
        };
        let parsed = parse_query(&query).unwrap();
        let merged = merge(&blocks, &parsed.parameters, &body, strict, &limits);
        let shown = match &merged {
            Ok(merged) => format!("{merged:?}{}", serde_json::to_string(&merged.parameters).unwrap()),
            Err(problems) => format!("{problems:?}{}", serde_json::to_string(problems).unwrap()),
        };
        prop_assert!(!shown.contains(CANARY), "{}", shown);
        let debugged = format!("{parsed:?}{body:?}");
        prop_assert!(!debugged.contains(CANARY), "{}", debugged);
    }

    #[test]
    fn a_malformed_query_never_shows_its_token(
        before in "([a-z]{1,3}=[a-z]{0,3}&){0,3}",
        name in "token|tok%65n|token%3Dx|x%26token|",
        flaw in "%|%z|%4|%zz|%FF|%C3|%+",
        flaw_first in any::<bool>(),
        after in "(&[a-z]{1,3}=[a-z]{0,3}){0,3}",
    ) {
        let token = format!("whk_{CANARY}");
        let value = if flaw_first { format!("{flaw}{token}") } else { format!("{token}{flaw}") };
        let separator = if name.is_empty() { "" } else { "=" };
        let error = parse_query(&format!("{before}{name}{separator}{value}{after}")).unwrap_err();
        let shown = format!("{error}{error:?}");
        prop_assert!(!shown.contains(CANARY), "{}", shown);
    }
}
