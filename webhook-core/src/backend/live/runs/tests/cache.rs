//! Tests of records that are in memory, or asked for.

use super::super::claims::{LEAST_READ_AHEAD, READ_AHEAD, READ_AHEAD_BYTES};
use super::*;

#[tokio::test]
async fn records_beyond_the_cache_are_asked_for_again_and_nothing_changes_before_they_are_there() {
    let (mut live, webhook, instant) = (LiveRuns::with_cache(0), webhook(), Instant::now());
    let admitted: Vec<_> =
        (0..300).map(|_| admit(&mut live, webhook, Some(1), OnOverlap::Queue).run).collect();
    assert!(live.records.is_empty());
    let first = live.claim(&ClaimRequest::new(9, LEASE, NOW), instant);
    assert!(first.claimed.is_empty() && live.running() == 0);
    assert_eq!(first.missing[0], admitted[0].id());
    assert_eq!(first.missing.len(), LEAST_READ_AHEAD, "it has room for one");
    live.set_bound(webhook, None);
    let second = live.claim(&ClaimRequest::new(9, LEASE, NOW), instant);
    assert_eq!(second.missing.len(), READ_AHEAD);
    let cancelled = live.cancel(admitted[7].id(), CancelReason::Requested, NOW);
    assert!(matches!(cancelled, Some(LiveCancel::Missing)) && live.queued() == 300);
    let newest = enqueue(webhook, None, OnOverlap::Coalesce);
    let Err(NotAdmitted::Missing(missing)) = live.admit(&newest, Some(1)) else { panic!("299 are missing") };
    assert_eq!((missing.len(), live.queued()), (299, 300));
    live.set_bound(webhook, None);
    let claimed = claim(&mut live, 300, instant);
    assert!(claimed.iter().map(|run| run.id()).eq(admitted.iter().map(|run| run.id())));
}

#[tokio::test]
async fn what_is_read_ahead_is_bounded_in_bytes_but_holds_one_run_at_least() {
    let (mut live, instant) = (LiveRuns::with_cache(0), Instant::now());
    for bytes in [3 << 20, 300 << 10] {
        let webhook = webhook();
        for _ in 0..9 {
            let id = live.admit(&sized(webhook, bytes), None).unwrap().run.id();
            live.commit(id);
        }
        let missing = live.claim(&ClaimRequest::new(9, LEASE, NOW), instant).missing;
        assert_eq!(missing.len(), (READ_AHEAD_BYTES as usize / bytes).max(1));
        live.close_webhook(webhook);
    }
}

#[tokio::test]
async fn the_cache_holds_the_runs_that_came_last_within_its_bytes() {
    let (mut live, webhook) = (LiveRuns::with_cache(100_000), webhook());
    let ids: Vec<RunId> = (0..50)
        .map(|_| {
            let id = live.admit(&sized(webhook, 10_000), None).unwrap().run.id();
            live.commit(id);
            id
        })
        .collect();
    let held = live.records.waiting();
    assert!((7..10).contains(&held), "{held}");
    assert!(ids[..50 - held].iter().all(|id| live.record(*id).is_none() && live.is_live(*id)));
    assert!(ids[50 - held..].iter().all(|id| live.record(*id).is_some()));
}

#[tokio::test]
async fn a_query_finds_its_runs_newest_first_whether_their_records_are_in_memory_or_not() {
    for cache in [0, usize::MAX] {
        let (mut live, first, second) = (LiveRuns::with_cache(cache), webhook(), webhook());
        let admitted: Vec<RunId> = (0..40)
            .map(|index| {
                admit(&mut live, if index % 2 == 0 { first } else { second }, None, OnOverlap::Queue).run.id()
            })
            .collect();
        let ids = |live: &LiveRuns, query: &RunQuery, limit| -> Vec<RunId> {
            live.list(query, limit).into_iter().map(|(id, _)| id).collect()
        };
        let newest: Vec<RunId> = admitted.iter().rev().copied().collect();
        for limit in [0, 1, 2, 7, 40, 99] {
            assert_eq!(ids(&live, &RunQuery::default(), limit), newest[..limit.min(40)]);
        }
        let before = RunQuery::default().before(Some(newest[4]));
        assert_eq!(ids(&live, &before, 10), newest[5..15]);
        let of_second = RunQuery::default().of_webhook(Some(second)).in_state(Some(RunState::Queued));
        let expected: Vec<RunId> = newest.iter().step_by(2).copied().collect();
        assert_eq!(ids(&live, &of_second, 99), expected);
        let running = RunQuery::default().in_state(Some(RunState::Running));
        let other = RunQuery::default().of_workflow(Some("report/b".parse().unwrap()));
        assert!(live.list(&running, 99).is_empty() && live.list(&other, 99).is_empty());
        let claimed = claim(&mut live, 3, Instant::now());
        assert_eq!(ids(&live, &running, 99), [claimed[2].id(), claimed[1].id(), claimed[0].id()]);
        let of_workflow = RunQuery::default().of_workflow(Some("report/a".parse().unwrap()));
        assert_eq!(ids(&live, &of_workflow, 99), newest);
    }
}
