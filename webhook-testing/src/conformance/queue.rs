//! Promises about queued runs: their size is bounded, and they are read back as they were recorded.

use std::sync::Arc;

use serde_json::{Value, json};

use super::scene::*;
use webhook_core::id::RunId;
use webhook_core::parameters::{EffectiveParameter, EffectiveParameters, Source};
use webhook_core::run::{Run, RunParameters, RunState};
use webhook_core::store::{Enqueue, Enqueued, Outcome, RunQuery, Store};
use webhook_core::webhook::{OnOverlap, Webhook};

/// The bytes of queued parameters are bounded, for one webhook and for all. A running run no longer counts.
pub async fn the_bytes_of_queued_parameters_are_bounded(store: Arc<dyn Store>) {
    let (one, other) = (webhook(&*store).await, webhook(&*store).await);
    let bounded = |webhook: &Webhook, bytes: usize| {
        let parameters = parameters(&[("a", json!("x".repeat(bytes)))]);
        // Name, source and JSON syntax take some 40 bytes.
        with_parameters(webhook, parameters).with_queue_bytes(3_100, 5_200)
    };
    for _ in 0..2 {
        created(store.enqueue(bounded(&one, 1_500)).await.must("enqueue a run"));
    }
    let refused = bounded(&one, 100);
    let id = refused.run.id();
    is_full(store.enqueue(refused).await.must("answer a full queue"), "more than the bytes of one webhook");
    assert_eq!(store.get_run(id).await.must("read a run"), None, "a refused run must not be recorded");
    created(store.enqueue(request(&one)).await.must("enqueue a run without parameters"));
    created(store.enqueue(bounded(&other, 1_500)).await.must("enqueue a run of another webhook"));
    is_full(
        store.enqueue(bounded(&other, 1_000)).await.must("answer a full queue"),
        "more than the bytes of all",
    );

    let claimed = claim(&*store, 1).await.remove(0).run;
    created(store.enqueue(bounded(&other, 1_000)).await.must("enqueue a run when another is running"));
    applied(settle(&*store, &claimed, Outcome::HandBack).await);
    assert_eq!(state(&*store, claimed.id()).await, RunState::Queued, "what was accepted must come back");
    is_full(
        store.enqueue(bounded(&one, 100)).await.must("answer a full queue"),
        "what came back counts again",
    );
    store.cancel_run(claimed.id(), now()).await.must("cancel a run");
    created(store.enqueue(bounded(&one, 100)).await.must("enqueue a run when another is cancelled"));
}

/// A refused run changes nothing, even if its call has read outdated settings.
pub async fn a_refused_run_leaves_the_bound_as_it_is(store: Arc<dyn Store>) {
    for (stored, stale, expected) in [(Some(1), None, 1), (None, Some(1), 3)] {
        let webhook =
            recorded(&*store, webhook_for("report/sales", concurrency(stored, OnOverlap::Queue))).await;
        let ids = enqueue_many(&*store, &webhook, 3).await;
        let stale = concurrency(stale, OnOverlap::Queue).concurrency;
        let refused = request(&webhook).with_concurrency(stale).with_queue_limits(Some(1), 100);
        is_full(store.enqueue(refused).await.must("answer a full queue"), "the fourth of at most one run");
        let claimed = claim_ids(&*store, 100).await;
        assert_eq!(claimed, ids[..expected], "the stored bound {stored:?} must hold");
        for run in &ids[expected..] {
            store.cancel_run(*run, now()).await.must("cancel a run");
        }
        for run in claimed {
            applied(settle(&*store, &*get(&*store, run).await, success()).await);
        }
    }
}

/// The parameters of a run are the same in every view and however many wait before it: every text, every
/// double, and values of nearly a megabyte.
pub async fn a_queued_runs_parameters_come_back_exactly(store: Arc<dyn Store>) {
    let webhook = bounded(&*store, 1, OnOverlap::Queue).await;
    let doubles =
        [9.204938554384977, 0.1 + 0.2, 5e-324, f64::MAX, 2_f64.powi(53) + 2.0, 1.797_693_134_862_315_5e308];
    let given = [
        parameters(&[("doubles", json!(doubles)), ("most", json!(u64::MAX)), ("least", json!(i64::MIN))]),
        parameters(&[
            ("text", json!("\u{0}\u{1f}\"\\\u{2028}日本語 🦀")),
            ("é", json!({"": [null, {}, []]})),
        ]),
        RunParameters::default(),
    ];
    let large: Vec<RunParameters> =
        (0..10).map(|number| parameters(&[("large", json!(format!("{number}é").repeat(340_000)))])).collect();
    let mut runs: Vec<Run> = Vec::new();
    for parameters in given.into_iter().chain(large) {
        let request = with_parameters(&webhook, parameters);
        runs.push((*created(store.enqueue(request).await.must("enqueue a run"))).clone());
    }
    let newest: Vec<RunId> = runs.iter().rev().map(|run| run.id()).collect();
    for query in [RunQuery::default(), RunQuery::default().of_webhook(Some(webhook.id))] {
        let page = store.list_runs(query.in_state(Some(RunState::Queued))).await.must("list runs");
        assert_eq!(page.items.iter().map(|run| run.id()).collect::<Vec<_>>(), newest);
        let same = page.items.iter().zip(runs.iter().rev()).all(|(listed, run)| **listed == *run);
        assert!(same, "queued runs must be listed as they were given");
    }
    for run in &runs {
        assert!(*get(&*store, run.id()).await == *run, "a queued run must be read as it was given");
    }
    for run in &runs {
        let claimed = claim(&*store, 1).await.pop().must("claim the next run").run;
        let same = claimed.id() == run.id()
            && claimed.parameters() == run.parameters()
            && claimed.caller() == run.caller();
        assert!(same, "a run must be claimed as it was given, oldest first");
        assert!(
            get(&*store, run.id()).await.parameters() == run.parameters(),
            "so must a running one be read"
        );
        applied(settle(&*store, &claimed, success()).await);
        assert!(get(&*store, run.id()).await.parameters() == run.parameters(), "and one that has ended");
    }
    let of_doubles = &runs[0].parameters().iter().find(|(name, _)| name == "doubles").must("keep a name").1;
    assert_eq!(of_doubles.shown(), json!(doubles), "every double must survive");
}

/// Deleting a webhook ends all of its queued runs, however many, and none of others.
pub async fn deleting_a_webhook_ends_all_that_waits_for_it(store: Arc<dyn Store>) {
    let (gone, stays) = (webhook(&*store).await, webhook(&*store).await);
    let waiting = enqueue_many(&*store, &gone, 300).await;
    let other = enqueue(&*store, &stays).await.id();
    let cancelled = store.delete_webhook(gone.id, None, now()).await.must("delete a webhook");
    assert_eq!(cancelled, waiting, "all that waited must be answered");
    assert_eq!(claim_ids(&*store, 1_000).await, vec![other], "nothing of a deleted webhook may be claimed");
    for id in waiting.iter().step_by(37) {
        assert_eq!(state(&*store, *id).await, RunState::Cancelled);
    }
    let queued = RunQuery::default().in_state(Some(RunState::Queued));
    assert!(list(&*store, queued).await.is_empty());
}

fn parameters(values: &[(&str, Value)]) -> RunParameters {
    let effective: EffectiveParameters = values
        .iter()
        .map(|(name, value)| ((*name).to_owned(), EffectiveParameter::new(value.clone(), Source::Body)))
        .collect();
    RunParameters::seal(effective, None, RunId::generate(now())).must("keep plain parameters")
}

fn with_parameters(webhook: &Webhook, parameters: RunParameters) -> Enqueue {
    Enqueue::new(run_of(webhook).with_parameters(parameters)).with_concurrency(webhook.settings.concurrency)
}

#[track_caller]
fn is_full(enqueued: Enqueued, why: &str) {
    assert!(matches!(enqueued, Enqueued::QueueFull), "{why}: {enqueued:?}");
}
