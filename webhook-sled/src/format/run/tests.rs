use std::sync::Arc;

use serde_json::json;
use webhook_core::parameters::{EffectiveParameter, EffectiveParameters, Source};
use webhook_core::run::ErrorKind;

use super::*;
use crate::format::block::{BlockBuilder, WHOLE, first_group_key, ids, records};
use crate::format::value::FIRST_RUNS_VERSION;

fn plain() -> Run {
    let now = from_milliseconds(1_767_225_600_123);
    let (id, webhook) = (RunId::generate(now), WebhookId::generate(now));
    let workflow = "report/a".parse().unwrap();
    Run::new(id, workflow, webhook, RunParameters::default(), 3, Caller::default(), now)
}

fn full() -> Run {
    let mut run = plain().into_parts();
    let at = |milliseconds: i64| Some(from_milliseconds(1_767_225_600_123 + milliseconds));
    let effective: EffectiveParameters =
        [("a".to_owned(), EffectiveParameter::new(json!([1, "é"]), Source::Query))].into_iter().collect();
    run.parameters = RunParameters::seal(effective, None, run.id).unwrap();
    run.state = RunState::TimedOut;
    (run.attempt, run.interruptions, run.fence) = (u32::MAX, 300, u64::MAX);
    run.cancel_requested = Some(CancelReason::Requested);
    run.retried_from = Some(plain().id());
    (run.started_at, run.finished_at, run.due_at) = (at(5), at(86_400_000), from_milliseconds(-1));
    run.progress = Some(Progress::new(0.25, Some("x".to_owned())));
    run.summary = Some("é".repeat(300));
    run.artifacts = vec![Artifact::new("a.html", "text/html", 7)];
    run.error = Some(RunError::new(ErrorKind::TimedOut, "late"));
    let mut caller = Caller::default();
    caller.method = "POST".into();
    caller.address = Some("2001:db8::1".parse().unwrap());
    caller.user_agent = Some("curl".to_owned());
    caller.request_id = Some("id".to_owned());
    caller.token_hint = Some("abcd".to_owned());
    caller.content_type = Some("application/json".to_owned());
    caller.traceparent = Some("00-1".to_owned());
    run.caller = Arc::new(caller);
    Run::from_parts(run).unwrap()
}

fn with_caller(run: Run, caller: Caller) -> Run {
    let mut parts = run.into_parts();
    parts.caller = Arc::new(caller);
    Run::from_parts(parts).unwrap()
}

#[test]
fn nothing_of_a_run_is_lost() {
    let names = |run: &Run| serde_json::to_value(run).unwrap().as_object().unwrap().len();
    // A new field of a run belongs into the record, into `full` above and here.
    assert_eq!(names(&full()), 20);
    let mut over_ipv4 = Caller::default();
    over_ipv4.address = Some("192.0.2.1".parse().unwrap());
    let called = with_caller(plain(), over_ipv4);
    for run in [plain(), full(), called] {
        let record = record(&run, 0).unwrap();
        assert_eq!(decode_run(&record).unwrap(), RecordedRun { run: run.clone(), apart: 0 });
        assert_eq!(id_of(&record).unwrap(), run.id());
        let (group_key, end) = group_key(&record).unwrap();
        assert_eq!((group_key.webhook, group_key.state), (run.webhook_id(), run.state()));
        assert_eq!(&group_key.workflow, run.workflow());
        assert_eq!(end as i64, to_milliseconds(run.finished_at().unwrap_or(run.queued_at())));
    }
}

#[test]
fn an_ordinary_run_takes_few_bytes() {
    assert!(record(&plain(), 0).unwrap().len() < 80);
}

#[test]
fn several_runs_in_one_value_are_told_apart() {
    // Ids that follow each other, as those of one process do. Other tests may come between two generated ones.
    let placed = |run: Run, id: u8, webhook: u8| {
        let bytes = |last: u8| [[1; 15].as_slice(), &[last]].concat().try_into().unwrap();
        let mut parts = run.into_parts();
        (parts.id, parts.webhook_id) = (RunId::from_bytes(bytes(id)), WebhookId::from_bytes(bytes(webhook)));
        Run::from_parts(parts).unwrap()
    };
    let older = {
        let mut parts = placed(plain(), 3, 1).into_parts();
        parts.id = RunId::from_bytes([0; 16]);
        Run::from_parts(parts).unwrap()
    };
    let (first, second) = (placed(plain(), 1, 1), placed(plain(), 2, 1));
    let runs = [first, second, older, placed(full(), 4, 2), placed(plain(), 5, 3)];
    let mut value = BlockBuilder::new(0);
    for run in &runs {
        value.push(&record(run, 0).unwrap()).unwrap();
    }
    let mut first_version = vec![FIRST_RUNS_VERSION, 0, 0];
    for run in &runs {
        let mut out = RecordWriter(first_version);
        let record = record(run, 0).unwrap();
        out.number(record.len() as u64);
        out.0.extend(record);
        first_version = out.0;
    }
    assert!(value.len() + 30 < first_version.len(), "{} {}", value.len(), first_version.len());
    for value in [value.into_bytes(), first_version] {
        let decoded = |record: &Vec<u8>| decode_run(record).unwrap().run;
        let read: Vec<Run> = records(&value).unwrap().iter().map(decoded).collect();
        assert_eq!(read, runs);
        assert_eq!(ids(&value).unwrap(), runs.iter().map(Run::id).collect::<Vec<_>>());
        assert_eq!(first_group_key(&value).unwrap().0.webhook, runs[0].webhook_id());
    }
}

/// Values that a release has written must be read forever, so the bytes are spelled out.
#[test]
fn a_value_of_format_three_is_written_as_ever() {
    let now = from_milliseconds(1_767_225_600_123);
    let run = |last: u8| {
        let (id, webhook) = (
            RunId::from_bytes([[1; 15].as_slice(), &[last]].concat().try_into().unwrap()),
            WebhookId::from_bytes([2; 16]),
        );
        let mut caller = Caller::default();
        caller.method = "POST".into();
        caller.request_id = Some("0b8c9a4e-6c1f-4f0e-9d2b-1a2b3c4d5e6f".to_owned());
        Run::new(id, "report/a".parse().unwrap(), webhook, RunParameters::default(), 3, caller, now)
    };
    let runs = [run(1), run(200)];
    let mut value = BlockBuilder::new(0);
    for run in &runs {
        value.push(&record(run, 0).unwrap()).unwrap();
    }
    let hex: String = value.into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let whole = "5500\
        01010101010101010101010101010101\
        02020202020202020202020202020202\
        0006 7265706f7274 0161\
        f6a1d5edee66 0000 00 000300 00 00\
        04504f5354 00 00 02 0b8c9a4e6c1f4f0e9d2b1a2b3c4d5e6f 00 00 00 00";
    let like_the_last = "2d01 c701\
        f6a1d5edee66 0000 00 000300 00 00\
        04504f5354 00 00 02 0b8c9a4e6c1f4f0e9d2b1a2b3c4d5e6f 00 00 00 00";
    assert_eq!(hex, format!("030000{whole}{like_the_last}").replace(' ', ""));
}

#[test]
fn a_request_id_is_read_as_it_was_written_whatever_its_form() {
    let uuid = "0b8c9a4e-6c1f-4f0e-9d2b-1a2b3c4d5e6f";
    let forms = ["ci-17".to_owned(), uuid.to_owned(), uuid.to_uppercase(), uuid.replace('-', "")];
    for id in forms.into_iter().map(Some).chain([None, Some(String::new())]) {
        let mut caller = Caller::default();
        caller.request_id = id.clone();
        let run = with_caller(plain(), caller);
        let record = record(&run, 0).unwrap();
        assert_eq!(decode_run(&record).unwrap().run.caller().request_id, id);
    }
}

#[test]
fn large_parameters_are_kept_apart_and_small_ones_are_not() {
    let is_apart = |length: usize| {
        let run = plain();
        let text = EffectiveParameter::new(json!("x".repeat(length)), Source::Body);
        let parameters =
            RunParameters::seal([("a".to_owned(), text)].into_iter().collect(), None, run.id()).unwrap();
        let run = run.with_parameters(parameters);
        let record = record(&run, parameters_apart(&run)).unwrap();
        let recorded = decode_run(&record).unwrap();
        assert_eq!(recorded.parameter_bytes(), run.parameters().bytes());
        assert!(record.len() < 100 + LARGE);
        if recorded.apart == 0 {
            assert_eq!(recorded.run, run);
        } else {
            assert_eq!(recorded.run, run.with_parameters(RunParameters::default()));
        }
        recorded.apart > 0
    };
    assert_eq!([0, 900, 1_100, 1 << 20].map(is_apart), [false, false, true, true]);
}

#[test]
fn a_record_without_a_whole_id_is_damaged_wherever_it_stands_in_a_value() {
    let mut value = BlockBuilder::new(256);
    value.push(&record(&plain(), 0).unwrap()).unwrap();
    let bytes = [value.into_bytes(), vec![1, WHOLE]].concat();
    assert!(matches!(ids(&bytes), Err(StoreError::Corrupt { .. })));
    assert!(matches!(records(&bytes), Err(StoreError::Corrupt { .. })));
}

#[test]
fn a_record_that_says_wrongly_where_its_parameters_are_is_damaged() {
    let saying = |members: &str| {
        let mut bytes = record(&plain(), 0).unwrap();
        *bytes.last_mut().unwrap() = 1;
        bytes.extend_from_slice(members.as_bytes());
        decode_run(&bytes)
    };
    let most = format!(r#"{{"parameters_apart":{MOST_APART}}}"#);
    assert_eq!(saying(&most).unwrap().apart, MOST_APART);
    let within = r#""parameters":{"a":{"value":1,"source":"query"}}"#;
    assert_eq!(saying(&format!("{{{within}}}")).unwrap().apart, 0);
    for members in [
        format!(r#"{{"parameters_apart":{}}}"#, MOST_APART + 1),
        format!(r#"{{"parameters_apart":{}}}"#, usize::MAX),
        format!(r#"{{"parameters_apart":5,{within}}}"#),
    ] {
        assert!(matches!(saying(&members), Err(StoreError::Corrupt { .. })), "{members}");
    }
}

#[test]
fn a_record_of_what_no_run_can_be_is_damaged() {
    let mut bytes = record(&full(), 0).unwrap();
    // The state is behind the two ids, and a queued run has no time of its end.
    bytes[32] = state_byte(RunState::Queued);
    assert!(matches!(decode_run(&bytes), Err(StoreError::Corrupt { .. })));
}

#[test]
fn a_record_that_was_cut_is_a_typed_error() {
    let whole = record(&full(), 0).unwrap();
    for length in 0..whole.len() {
        let error = decode_run(&whole[..length]);
        assert!(matches!(error, Err(StoreError::Corrupt { .. })), "{length}: {error:?}");
    }
    let mut value = BlockBuilder::new(0);
    value.push(&whole).unwrap();
    value.push(&record(&full(), 0).unwrap()).unwrap();
    let value = value.into_bytes();
    assert!(matches!(records(&value[..value.len() - 1]), Err(StoreError::Corrupt { .. })));
}
