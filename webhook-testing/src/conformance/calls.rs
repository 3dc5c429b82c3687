//! Promises about the call log.

use std::net::IpAddr;
use std::sync::Arc;

use super::scene::*;
use webhook_core::calls::{CALL_LOG_BYTES, CALLS_KEPT, CallFacts, CallOutcome, CallRecord, LoggedCall};
use webhook_core::events::{CALLS_IN_EVENT, Change, Event};
use webhook_core::id::{CallId, RunId, WebhookId};
use webhook_core::store::{CallQuery, Store};
use webhook_core::webhook::Webhook;

/// A call is read back as it was appended, with all its facts.
pub async fn a_call_is_read_back_as_it_was_appended(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let mut accepted = CallFacts::new("POST", 202, CallOutcome::Accepted);
    accepted.address = Some("2001:db8::7".parse::<IpAddr>().must("read an address"));
    accepted.user_agent = Some("GitHub-Hookshot/Ω\u{1}".into());
    accepted.request_id = Some("4bf92f35");
    accepted.run_id = Some(RunId::generate(now()));
    accepted.content_type = Some("application/json");
    accepted.body_bytes = u64::from(u32::MAX);
    let mut refused = CallFacts::new("GET", 403, CallOutcome::Refused);
    refused.problem = Some("get-not-allowed");
    refused.detail = Some("this webhook may not be called by GET; use POST".into());
    let others = [CallOutcome::Replayed, CallOutcome::Ignored, CallOutcome::DryRun, CallOutcome::Handshake];
    let others = others.map(|outcome| CallFacts::new("HEAD", 200, outcome));
    let calls: Vec<_> = [accepted, refused]
        .iter()
        .chain(&others)
        .map(|facts| Arc::new(CallRecord::new(webhook.id, facts, now())))
        .collect();
    append(&*store, &calls).await;
    let mut listed = list(&*store, CallQuery::new(webhook.id)).await;
    listed.reverse();
    assert_eq!(listed, calls, "calls must be read back as they were appended");
}

/// Calls are listed newest first, whatever the order in which they were appended, and pages follow each other.
pub async fn calls_are_listed_newest_first_in_pages(store: Arc<dyn Store>) {
    let (webhook, other) = (webhook(&*store).await, webhook(&*store).await);
    let calls: Vec<_> = (0..7).map(|number| call(&webhook, &number.to_string())).collect();
    let pick = |places: &[usize]| places.iter().map(|place| calls[*place].clone()).collect::<Vec<_>>();
    append(&*store, &pick(&[3, 1, 6])).await;
    append(&*store, &[call(&other, "of another webhook")]).await;
    append(&*store, &pick(&[0, 5, 4, 2])).await;
    let mut seen = Vec::new();
    let mut query = CallQuery::new(webhook.id).limit(3);
    loop {
        let page = store.list_calls(query).await.must("list calls");
        assert!(page.items.len() <= 3, "a page holds no more than its limit");
        seen.extend(page.items);
        match page.next {
            Some(next) => query = query.before(Some(next)),
            None => break,
        }
    }
    let newest_first: Vec<_> = calls.iter().rev().cloned().collect();
    assert_eq!(seen, newest_first, "all pages together have each call once, newest first");
    let unknown = CallQuery::new(WebhookId::generate(now()));
    assert!(list(&*store, unknown).await.is_empty(), "an unknown webhook has no calls");
}

/// A call that exists throughout a walk over all pages is returned exactly once.
pub async fn listing_calls_is_stable_while_they_are_appended(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let calls: Vec<_> = (0..20).map(|number| call(&webhook, &number.to_string())).collect();
    append(&*store, &calls).await;
    let (mut seen, mut query) = (Vec::new(), CallQuery::new(webhook.id).limit(4));
    loop {
        let page = store.list_calls(query).await.must("list calls");
        seen.extend(page.items.iter().map(|call| call.id));
        append(&*store, &[call(&webhook, "in between")]).await;
        match page.next {
            Some(next) => query = query.before(Some(next)),
            None => break,
        }
    }
    let expected: Vec<CallId> = calls.iter().rev().map(|call| call.id).collect();
    assert_eq!(seen, expected, "each call must be returned exactly once");
}

/// Of each webhook, the newest calls are kept, and a busy webhook takes nothing from a quiet one.
pub async fn the_newest_calls_of_each_webhook_are_kept(store: Arc<dyn Store>) {
    let (busy, quiet) = (webhook(&*store).await, webhook(&*store).await);
    append(&*store, &[call(&quiet, "quiet")]).await;
    let calls: Vec<_> = (0..CALLS_KEPT + 70).map(|number| call(&busy, &number.to_string())).collect();
    for some in calls.chunks(90) {
        append(&*store, some).await;
    }
    let kept = list(&*store, CallQuery::new(busy.id).limit(10 * CALLS_KEPT)).await;
    let newest: Vec<_> = calls.iter().rev().take(CALLS_KEPT).cloned().collect();
    assert_eq!(kept, newest, "the newest calls must be kept, and no others");
    assert_eq!(list(&*store, CallQuery::new(quiet.id)).await.len(), 1);
}

/// The calls of all webhooks are bounded in bytes. The newest stay.
pub async fn calls_of_all_webhooks_are_bounded_in_bytes(store: Arc<dyn Store>) {
    let long = "x".repeat(256);
    let (mut webhooks, mut appended) = (Vec::new(), 0);
    while appended < 2 * CALL_LOG_BYTES {
        let webhook = webhook(&*store).await;
        let mut facts = CallFacts::new("POST", 422, CallOutcome::Refused);
        facts.detail = Some("x".repeat(512).into());
        facts.user_agent = Some(long.as_str().into());
        facts.request_id = Some(&long);
        facts.content_type = Some(&long);
        let record = || Arc::new(CallRecord::new(webhook.id, &facts, now()));
        let calls: Vec<_> = (0..CALLS_KEPT).map(|_| record()).collect();
        appended += calls.iter().map(|call| call.bytes_in_memory()).sum::<usize>();
        append(&*store, &calls).await;
        webhooks.push(webhook.id);
    }
    let (mut kept, mut counts) = (0, Vec::new());
    for webhook in &webhooks {
        let calls = list(&*store, CallQuery::new(*webhook).limit(CALLS_KEPT)).await;
        kept += calls.iter().map(|call| call.bytes_in_memory()).sum::<usize>();
        counts.push(calls.len());
    }
    assert!(kept <= CALL_LOG_BYTES + CALL_LOG_BYTES / 4, "{kept} bytes of calls are too many");
    assert!(kept >= CALL_LOG_BYTES / 2, "{kept} bytes of calls are too few");
    assert_eq!(counts.last(), Some(&CALLS_KEPT), "the newest calls must stay");
    assert_eq!(counts.first(), Some(&0), "the oldest calls must go");
}

/// A call that is appended again, as after an error, is in the log once.
pub async fn a_call_is_appended_once(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let calls: Vec<_> = (0..3).map(|number| call(&webhook, &number.to_string())).collect();
    append(&*store, &calls[..2]).await;
    append(&*store, &calls).await;
    assert_eq!(list(&*store, CallQuery::new(webhook.id)).await.len(), 3, "each call must be there once");
}

/// Calls of an unknown webhook are ignored, and those of a deleted one go with it.
pub async fn calls_belong_to_a_webhook_that_exists(store: Arc<dyn Store>) {
    let unknown = webhook_for("report/sales", Default::default());
    let deleted = webhook(&*store).await;
    let kept = webhook(&*store).await;
    append(&*store, &[call(&unknown, "1"), call(&deleted, "2"), call(&kept, "3")]).await;
    store.delete_webhook(deleted.id, None, now()).await.must("delete a webhook");
    append(&*store, &[call(&deleted, "4")]).await;
    for webhook in [&unknown, &deleted] {
        assert!(list(&*store, CallQuery::new(webhook.id)).await.is_empty(), "it has no webhook");
    }
    assert_eq!(list(&*store, CallQuery::new(kept.id)).await.len(), 1);
}

/// The calls of a webhook that are appended together are one event, with the newest of them.
pub async fn appended_calls_are_an_event_of_each_webhook(store: Arc<dyn Store>) {
    let (first, second) = (webhook(&*store).await, webhook(&*store).await);
    let mut cursor = store.events_since(None).await.must("read events").cursor;
    let many: Vec<_> = (0..CALLS_IN_EVENT + 5).map(|number| call(&first, &number.to_string())).collect();
    let one = call(&second, "one");
    append(&*store, &[many.clone(), vec![one.clone()]].concat()).await;
    let mut seen: Vec<Event> = Vec::new();
    while seen.len() < 2 {
        let events = within("an event", store.events_since(Some(cursor))).await.must("read events");
        assert!(!events.reset, "a cursor that the store has just given must not be a gap");
        cursor = events.cursor;
        seen.extend(events.items);
    }
    assert_eq!(seen.len(), 2, "one event of each webhook");
    for (webhook, expected, cut) in [(&first, &many[5..], true), (&second, std::slice::from_ref(&one), false)]
    {
        let event =
            seen.iter().find(|event| event.webhook_id == webhook.id).must("tell of a webhook's calls");
        assert_eq!((event.run, &event.workflow), (None, &webhook.workflow));
        let Change::Calls { calls, truncated } = &event.change else { panic!("an event of calls") };
        assert_eq!((&**calls, *truncated), (expected, cut), "the newest calls, oldest first");
    }
}

fn call(webhook: &Webhook, detail: &str) -> Arc<CallRecord> {
    let mut facts = CallFacts::new("POST", 202, CallOutcome::Accepted);
    facts.detail = Some(detail.into());
    Arc::new(CallRecord::new(webhook.id, &facts, now()))
}

async fn append(store: &dyn Store, calls: &[Arc<CallRecord>]) {
    let calls = calls.iter().cloned().map(LoggedCall::new).collect();
    store.append_calls(calls).await.must("append calls");
}

async fn list(store: &dyn Store, query: CallQuery) -> Vec<Arc<CallRecord>> {
    store.list_calls(query).await.must("list calls").items
}
