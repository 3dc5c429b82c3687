//! Promises about events.

use std::sync::Arc;
use std::time::Duration;

use super::scene::*;
use webhook_core::events::{Change, Event, EventCursor};
use webhook_core::id::RunId;
use webhook_core::run::{Progress, RunState};
use webhook_core::store::{Renewal, Store};
use webhook_core::webhook::OnOverlap;

/// Without a cursor, the current cursor is returned at once, without earlier events.
pub async fn the_present_cursor_is_answered_at_once(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    for _ in 0..2 {
        let events = within("the present cursor", store.events_since(None)).await.must("read events");
        assert!(events.items.is_empty() && !events.reset, "a beginning has no events and no gap");
        succeeded(&*store, &webhook).await;
    }
}

/// Every change of a run's state is one event with the run, in order.
pub async fn every_change_of_state_is_an_event(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let start = cursor(&*store).await;
    let id = enqueue(&*store, &webhook).await.id();
    let run = claim(&*store, 1).await.remove(0).run;
    applied(settle(&*store, &run, retry(Duration::ZERO)).await);
    let run = claim_when_due(&*store, SHORT).await.remove(0).run;
    let again = claim_when_due(&*store, LONG).await.remove(0).run;
    assert!(again.fence() > run.fence());
    let ended = applied(settle(&*store, &again, success()).await);

    let events =
        events_until(&*store, start, |event| state_of(event) == Some((id, RunState::Succeeded))).await;
    let states: Vec<RunState> = events.iter().filter_map(state_of).map(|(_, state)| state).collect();
    use RunState::{Queued, Running, Succeeded};
    let expected = [Queued, Running, Queued, Running, Queued, Running, Succeeded];
    assert_eq!(states, expected, "queued, retried, interrupted and ended");
    let last = events.last().must("send the last event");
    assert_eq!((last.run, &last.workflow, last.webhook_id), (Some(id), &webhook.workflow, webhook.id));
    assert!(matches!(&last.change, Change::State(run) if *run == ended), "a state event carries the run");
}

/// The event of a run's end carries the deliveries that were recorded with it.
pub async fn the_event_of_an_end_carries_its_deliveries(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let start = cursor(&*store).await;
    let deliveries = delivering(&*store, &webhook, 3).await;
    let ended = (deliveries[0].run, RunState::Succeeded);
    let events = events_until(&*store, start, |event| state_of(event) == Some(ended)).await;
    let (last, before) = events.split_last().must("send an event");
    assert_eq!(*last.deliveries, *deliveries, "the deliveries as they were recorded");
    assert!(before.iter().all(|event| event.deliveries.is_empty()), "no others before");
}

/// Runs that end without being executed are events too.
pub async fn runs_that_never_execute_are_events_too(store: Arc<dyn Store>) {
    let start = cursor(&*store).await;
    let skipping = bounded(&*store, 1, OnOverlap::Skip).await;
    enqueue(&*store, &skipping).await;
    let skipped = enqueue(&*store, &skipping).await.id();
    let coalescing = bounded(&*store, 1, OnOverlap::Coalesce).await;
    let _running = running(&*store, &coalescing).await;
    let superseded = enqueue(&*store, &coalescing).await.id();
    let cancelled = enqueue(&*store, &coalescing).await.id();
    store.cancel_run(cancelled, now()).await.must("cancel a run");
    let orphan = enqueue(&*store, &coalescing).await.id();
    store.delete_webhook(coalescing.id, None, now()).await.must("delete a webhook");
    let last = (orphan, RunState::Cancelled);
    let events = events_until(&*store, start, |event| state_of(event) == Some(last)).await;
    let states: Vec<_> = events.iter().filter_map(state_of).collect();
    let ends = [
        (skipped, RunState::Skipped),
        (superseded, RunState::Cancelled),
        (cancelled, RunState::Cancelled),
        last,
    ];
    for expected in ends {
        assert!(states.contains(&expected), "no event told that {expected:?}");
    }
}

/// Progress and log lines are events.
pub async fn progress_and_log_lines_are_events(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let run = running(&*store, &webhook).await;
    let start = cursor(&*store).await;
    let progress = Progress::new(0.5, Some("half".to_owned()));
    let renewal = Renewal::new(run.id(), run.fence(), Some(progress.clone()));
    store.renew(vec![renewal], LONG).await.must("renew a claim");
    store
        .append_log(run.id(), run.fence() + 1, "from nobody\n".to_owned())
        .await
        .must("pass over a stale log");
    store.append_log(run.id(), run.fence(), "one\ntwo\n".to_owned()).await.must("append to a log");
    let is_log = |event: &Event| matches!(&event.change, Change::Log { text, .. } if text.ends_with("two\n"));
    let events = events_until(&*store, start, is_log).await;
    let told =
        events.iter().any(|event| matches!(&event.change, Change::Progress(told) if *told == progress));
    assert!(told, "no event told of the progress");
    let lines: String = events
        .iter()
        .filter_map(|event| match &event.change {
            Change::Log { text, .. } => Some(text.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(lines, "one\ntwo\n", "the lines of the holder, and no others");
    assert!(events.iter().all(|event| event.run == Some(run.id())));
}

/// Resuming from any event's cursor gives the events after it; a wait ends with the next event.
pub async fn events_go_on_after_a_cursor(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let start = cursor(&*store).await;
    let ids = enqueue_many(&*store, &webhook, 5).await;
    let last = (ids[4], RunState::Queued);
    let events = events_until(&*store, start, |event| state_of(event) == Some(last)).await;
    for (index, event) in events.iter().enumerate().take(events.len() - 1) {
        let text = event.cursor.to_string();
        let read: EventCursor = text.parse().must("read an event's cursor back from its text");
        let rest = events_until(&*store, read, |event| state_of(event) == Some(last)).await;
        assert_eq!(rest.len(), events.len() - index - 1, "what comes after event {index}");
    }
    let end = events.last().must("send the last event").cursor;
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.events_since(Some(end)).await }
    });
    tokio::task::yield_now().await;
    let next = enqueue(&*store, &webhook).await.id();
    let events = within("the next event", waiting).await.must("keep a reader going").must("read events");
    assert_eq!(events.items.first().and_then(state_of), Some((next, RunState::Queued)));
}

/// All readers get the same events in the same order, at whatever handle they read: a cursor of one holds at every other.
pub async fn every_reader_gets_the_same_events(store: Arc<dyn Store>) {
    let (one, other) = (webhook(&*store).await, webhook(&*store).await);
    let start = cursor(&*store).await;
    for webhook in [&one, &other, &one] {
        succeeded(&*store, webhook).await;
    }
    let last = (succeeded(&*store, &other).await, RunState::Succeeded);
    let is_last = |event: &Event| state_of(event) == Some(last);
    let seen = events_until(&*store, start, is_last).await;
    let read =
        |events: &[Event]| -> Vec<_> { events.iter().map(|event| (event.cursor, state_of(event))).collect() };
    // From each place on, so that each handle begins at each of them.
    for (place, event) in seen.iter().enumerate().take(seen.len() - 1) {
        for _ in 0..3 {
            let rest = events_until(&*store, event.cursor, is_last).await;
            assert_eq!(read(&rest), read(&seen[place + 1..]), "the events after number {place}");
        }
    }
}

/// A cursor of an earlier opening of the store gives a gap, and a cursor to continue with.
pub async fn a_foreign_cursor_is_a_gap(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let foreign: EventCursor = "5eed5eed5eed5eed-123456".parse().must("read a cursor");
    let events = within("a gap", store.events_since(Some(foreign))).await.must("read events");
    assert!(events.reset, "a cursor of another life must be told from the store's own");
    let id = enqueue(&*store, &webhook).await.id();
    let queued = (id, RunState::Queued);
    events_until(&*store, events.cursor, |event| state_of(event) == Some(queued)).await;
}

/// A reader that falls behind gets every event or is told of the gap.
pub async fn who_falls_behind_misses_nothing_unknowingly(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let run = running(&*store, &webhook).await;
    let (mut cursor, mut lines) = (cursor(&*store).await, 0);
    let all = 6_000;
    for line in 0..all {
        store.append_log(run.id(), run.fence(), format!("{line}\n")).await.must("append to a log");
    }
    while lines < all {
        let read = within("events for who fell behind", store.events_since(Some(cursor)));
        let events = read.await.must("read events");
        if events.reset {
            return;
        }
        for event in &events.items {
            if let Change::Log { text, .. } = &event.change {
                assert!(text.starts_with(&format!("{lines}\n")), "after {lines} lines came {text:?}");
                lines += text.lines().count();
            }
        }
        cursor = events.cursor;
    }
}

async fn cursor(store: &dyn Store) -> EventCursor {
    store.events_since(None).await.must("read events").cursor
}

fn state_of(event: &Event) -> Option<(RunId, RunState)> {
    match &event.change {
        Change::State(run) => Some((run.id(), run.state())),
        _ => None,
    }
}

/// Returns the events after `cursor`, up to the first for which `last` holds.
async fn events_until(
    store: &dyn Store,
    mut cursor: EventCursor,
    last: impl Fn(&Event) -> bool,
) -> Vec<Event> {
    within("an event", async {
        let mut seen = Vec::new();
        loop {
            let events = store.events_since(Some(cursor)).await.must("read events");
            assert!(!events.reset, "a cursor that the store has just given must not be a gap");
            for event in events.items {
                let is_last = last(&event);
                seen.push(event);
                if is_last {
                    return seen;
                }
            }
            cursor = events.cursor;
        }
    })
    .await
}
