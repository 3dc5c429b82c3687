//! Promises of the optional part for calls: their rates and their log.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::scene::*;
use webhook_core::calls::{
    CALL_LOG_BYTES, CALLS_KEPT, CONTENT_BYTES, CallFacts, CallOutcome, CallRecord, KeptContent, LoggedCall,
};
use webhook_core::events::{CALLS_IN_EVENT, Change, Event};
use webhook_core::id::{CallId, RunId, WebhookId};
use webhook_core::store::{CallQuery, CallStore, PruneRequest, Store};
use webhook_core::token::Sealed;
use webhook_core::webhook::{RateLimit, Webhook};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);

/// Calls at once take from one bucket for each webhook, and a refused call is told how long to wait.
pub async fn a_rate_is_one_for_all_calls_of_a_webhook(store: Arc<dyn Store>) {
    let (webhook, other) = (webhook(&*store).await.id, self::webhook(&*store).await.id);
    let limit = RateLimit::new(1, 5);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let store = store.clone();
        calls.spawn(async move { part(&*store).take_call(webhook, limit).await.must("take a call") });
    }
    let pauses: Vec<Duration> = calls.join_all().await.into_iter().flatten().collect();
    assert_eq!(pauses.len(), 7, "of twelve calls at once, a burst of five must be allowed");
    let minute = Duration::from_secs(60);
    let is_right = |pause: &Duration| *pause > minute / 2 && *pause <= minute + Duration::from_secs(1);
    assert!(pauses.iter().all(is_right), "the next call is allowed in a minute, not in {pauses:?}");
    let taken = part(&*store).take_call(other, limit).await.must("take a call");
    assert_eq!(taken, None, "each webhook must have its own rate");
}

/// A bucket gains calls by its rate, up to its burst.
pub async fn a_bucket_refills_by_its_rate(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await.id;
    let limit = RateLimit::new(600, 2);
    let take = async || part(&*store).take_call(webhook, limit).await.must("take a call");
    while take().await.is_none() {}
    within("a bucket to gain a call", async {
        while let Some(pause) = take().await {
            tokio::time::sleep(pause).await;
        }
    })
    .await;
}

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
        let page = part(&*store).list_calls(query).await.must("list calls");
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
        let page = part(&*store).list_calls(query).await.must("list calls");
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

/// The content of a call is read back as it was appended, under its webhook only and until it expires.
pub async fn the_content_of_a_call_is_kept_until_it_expires(store: Arc<dyn Store>) {
    let (webhook, other) = (webhook(&*store).await, webhook(&*store).await);
    let end = now() + HOUR;
    let kept = with_content(&webhook, &[0, 255, 10, 13], end);
    let bare = LoggedCall::new(call(&webhook, "without content"));
    part(&*store).append_calls(vec![kept.clone(), bare.clone()]).await.must("append calls");
    let get = async |webhook: &Webhook, call: &LoggedCall, at: SystemTime| {
        part(&*store).get_call(webhook.id, call.record.id, at).await.must("get a call")
    };
    assert_eq!(get(&webhook, &kept, end - SECOND).await, Some(kept.clone()), "with its content");
    assert_eq!(get(&webhook, &bare, now()).await, Some(bare), "a call without content");
    assert_eq!(get(&other, &kept, now()).await, None, "it is no call of another webhook");
    let expired = get(&webhook, &kept, end).await.must("keep the record");
    assert_eq!((expired.record, expired.content), (kept.record.clone(), None), "the record alone is left");
    let never = with_content(&webhook, &[1], end);
    assert_eq!(get(&webhook, &never, now()).await, None, "it was never appended");
}

/// Pruning removes expired contents, and no others.
pub async fn expired_contents_are_pruned(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let (first, second) = (now() + HOUR, now() + 3 * HOUR);
    let calls = [first, second].map(|end| with_content(&webhook, &[7; 100], end));
    part(&*store).append_calls(calls.to_vec()).await.must("append calls");
    store.prune(PruneRequest::new(now() + 2 * HOUR, 100 * HOUR, 10)).await.must("prune");
    for (call, is_kept) in calls.iter().zip([false, true]) {
        let found = part(&*store).get_call(webhook.id, call.record.id, now()).await.must("get a call");
        let found = found.must("keep the record");
        assert_eq!(found.content.is_some(), is_kept, "an expired content must be removed, and no other");
    }
}

/// The contents of a webhook are bounded in bytes: the oldest go, and those of other webhooks stay.
pub async fn the_contents_of_a_webhook_are_bounded_in_bytes(store: Arc<dyn Store>) {
    let (busy, quiet) = (webhook(&*store).await, webhook(&*store).await);
    let end = now() + HOUR;
    let of_quiet = with_content(&quiet, &[1; 1_000], end);
    part(&*store).append_calls(vec![of_quiet.clone()]).await.must("append a call");
    let mut calls = Vec::new();
    for _ in 0..20 {
        let call = with_content(&busy, &vec![2; 1 << 20], end);
        part(&*store).append_calls(vec![call.clone()]).await.must("append a call");
        calls.push(call.record.id);
    }
    let mut kept = Vec::new();
    for call in &calls {
        let found =
            part(&*store).get_call(busy.id, *call, now()).await.must("get a call").must("keep the record");
        kept.push(found.content.map_or(0, |content| content.sealed.as_bytes().len()));
    }
    let bytes: usize = kept.iter().sum();
    assert!(bytes <= CONTENT_BYTES, "{bytes} bytes of contents are too many");
    assert!(bytes >= CONTENT_BYTES / 2, "{bytes} bytes of contents are too few");
    assert_eq!((kept[0], kept[19]), (0, 1 << 20), "the oldest go, and the newest stays");
    let quiet = part(&*store).get_call(quiet.id, of_quiet.record.id, now()).await.must("get a call");
    assert_eq!(quiet, Some(of_quiet), "another webhook's content must stay");
}

/// A content goes with its call, when newer calls take its place or its webhook is deleted.
pub async fn a_content_goes_with_its_call(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let first = with_content(&webhook, b"first", now() + HOUR);
    part(&*store).append_calls(vec![first.clone()]).await.must("append a call");
    let later: Vec<_> = (0..CALLS_KEPT).map(|number| call(&webhook, &number.to_string())).collect();
    append(&*store, &later).await;
    let found = part(&*store).get_call(webhook.id, first.record.id, now()).await.must("get a call");
    assert_eq!(found, None, "newer calls have taken its place");
    let last = with_content(&webhook, b"last", now() + HOUR);
    part(&*store).append_calls(vec![last.clone()]).await.must("append a call");
    store.delete_webhook(webhook.id, None, now()).await.must("delete a webhook");
    let found = part(&*store).get_call(webhook.id, last.record.id, now()).await.must("get a call");
    assert_eq!(found, None, "it goes with its webhook");
}

/// Returns a call with these bytes as its sealed content.
fn with_content(webhook: &Webhook, sealed: &[u8], expires_at: SystemTime) -> LoggedCall {
    let content = Arc::new(KeptContent::new(Sealed::from_bytes(sealed.to_vec()), expires_at));
    let mut facts = CallFacts::new("POST", 202, CallOutcome::Accepted);
    facts.content = Some(content.clone());
    LoggedCall::new(Arc::new(CallRecord::new(webhook.id, &facts, now()))).with_content(Some(content))
}

fn call(webhook: &Webhook, detail: &str) -> Arc<CallRecord> {
    let mut facts = CallFacts::new("POST", 202, CallOutcome::Accepted);
    facts.detail = Some(detail.into());
    Arc::new(CallRecord::new(webhook.id, &facts, now()))
}

async fn append(store: &dyn Store, calls: &[Arc<CallRecord>]) {
    let calls = calls.iter().cloned().map(LoggedCall::new).collect();
    part(store).append_calls(calls).await.must("append calls");
}

async fn list(store: &dyn Store, query: CallQuery) -> Vec<Arc<CallRecord>> {
    part(store).list_calls(query).await.must("list calls").items
}

/// A store without this part says so. Its calls are kept by the service.
pub async fn calls_are_left_to_the_service(store: Arc<dyn Store>) {
    let message = "the store has a CallStore: test it by `conformance_tests!(…)`, not by `without_calls: …`";
    assert!(store.calls().is_none(), "{message}");
}

fn part(store: &dyn Store) -> &dyn CallStore {
    store
        .calls()
        .must("return a CallStore; a store without one is tested by `conformance_tests!(without_calls: …)`")
}
