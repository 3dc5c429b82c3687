//! Promises about the outbox.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::scene::*;
use webhook_core::id::DeliveryId;
use webhook_core::notifier::{Delivery, DeliveryOutcome, DeliveryState};
use webhook_core::store::{
    Channels, DeliveryClaimRequest, DeliveryQuery, DeliverySettlement, Store, StoreError,
};
use webhook_core::webhook::Channel;

/// Eight claimers at once over a hundred deliveries: each delivery goes to one of them.
pub async fn each_delivery_goes_to_one_claimer(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let mut all = BTreeSet::new();
    for _ in 0..10 {
        all.extend(delivering(&*store, &webhook, 10).await.iter().map(|delivery| delivery.id));
    }
    let mut claimers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let store = store.clone();
        claimers.spawn(async move {
            let mut mine = Vec::new();
            loop {
                let claimed = claim_deliveries(&*store, 7, LONG).await;
                if claimed.is_empty() {
                    return mine;
                }
                mine.extend(claimed.iter().map(|delivery| delivery.id));
            }
        });
    }
    let claimed = within("eight claimers", claimers.join_all()).await.concat();
    assert_eq!(claimed.len(), 100, "a hundred deliveries must be claimed a hundred times in all");
    assert_eq!(BTreeSet::from_iter(claimed), all, "each delivery must go to one claimer");
}

/// Deliveries are claimed as they were recorded, the earliest due first, and never more than requested.
pub async fn deliveries_are_claimed_earliest_first(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let first = delivering(&*store, &webhook, 1).await;
    // Two that are due in the same millisecond may come in either order.
    tokio::time::sleep(Duration::from_millis(5)).await;
    let second = delivering(&*store, &webhook, 1).await;
    assert_eq!(claim_deliveries(&*store, 1, LONG).await, first);
    assert_eq!(claim_deliveries(&*store, 10, LONG).await, second);
    assert_eq!(claim_deliveries(&*store, 10, LONG).await, vec![]);
    let listed = store.list_deliveries(&[first[0].run]).await.must("list deliveries");
    assert_eq!(listed, first, "a claim is no try: it must not change the delivery");
}

/// A run's deliveries are listed oldest first, those of several runs run by run, and an unknown run has none.
pub async fn deliveries_of_a_run_are_listed_oldest_first(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let nobody_told = succeeded(&*store, &webhook).await;
    assert_eq!(store.list_deliveries(&[nobody_told]).await.must("list deliveries"), vec![]);
    let deliveries = delivering(&*store, &webhook, 5).await;
    let others = delivering(&*store, &webhook, 2).await;
    let runs = [others[0].run, nobody_told, deliveries[0].run];
    let listed = store.list_deliveries(&runs).await.must("list deliveries");
    assert_eq!(listed, [others, deliveries.clone()].concat(), "run by run in the order they were asked for");
    let listed = store.list_deliveries(&[deliveries[0].run]).await.must("list deliveries");
    assert_eq!(listed, deliveries);
    let unknown = run_of(&webhook).id();
    assert_eq!(store.list_deliveries(&[unknown]).await.must("list deliveries"), vec![]);
}

/// A failed try is recorded, and the delivery is due again after its pause, not earlier.
pub async fn a_failed_try_is_repeated_after_its_pause(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let told = delivering(&*store, &webhook, 1).await.remove(0);
    claim_deliveries(&*store, 1, LONG).await;
    let (delay, start) = (Duration::from_millis(200), std::time::Instant::now());
    let at = now() + delay;
    let outcome = DeliveryOutcome::Retry { error: "server busy".to_owned(), delay, at };
    settle_delivery(&*store, &told, outcome.clone()).await;
    let expected = told.after(&outcome);
    assert_eq!(of(&*store, &told).await, expected);
    assert_eq!((expected.attempts, expected.next_at), (1, Some(at)));
    let again = claim_when_due(&*store).await;
    let waited = start.elapsed() + Duration::from_millis(5);
    assert!(waited >= delay, "a delivery due after {delay:?} was given out after {waited:?}");
    assert_eq!(again, expected);
}

/// A delivery that was sent or given up is not claimed again, and a late outcome does not change it.
pub async fn a_settled_delivery_is_done(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let deliveries = delivering(&*store, &webhook, 3).await;
    claim_deliveries(&*store, 10, SHORT).await;
    let given_up = DeliveryOutcome::GivenUp { error: "no such address".to_owned() };
    let dropped = DeliveryOutcome::Dropped { error: "too late".to_owned() };
    let unknown = delivery(deliveries[0].run, "nobody@example.com");
    let settlements = vec![
        DeliverySettlement::new(&deliveries[0], DeliveryOutcome::Delivered),
        DeliverySettlement::new(&unknown, DeliveryOutcome::Delivered),
        DeliverySettlement::new(&deliveries[1], given_up.clone()),
        DeliverySettlement::new(&deliveries[2], dropped.clone()),
    ];
    store.settle_deliveries(settlements).await.must("settle deliveries");
    let expected = vec![
        deliveries[0].after(&DeliveryOutcome::Delivered),
        deliveries[1].after(&given_up),
        deliveries[2].after(&dropped),
    ];
    let listed = || async { store.list_deliveries(&[deliveries[0].run]).await.must("list deliveries") };
    assert_eq!(listed().await, expected);
    assert_eq!((expected[1].state, expected[1].attempts), (DeliveryState::GivenUp, 1));
    assert_eq!((expected[2].state, expected[2].attempts), (DeliveryState::GivenUp, 0));

    let late = DeliveryOutcome::Retry { error: "late".to_owned(), delay: Duration::ZERO, at: now() };
    let late = |delivery| DeliverySettlement::new(delivery, late.clone());
    store.settle_deliveries(expected.iter().map(late).collect()).await.must("pass over settled deliveries");
    assert_eq!(listed().await, expected, "a settled delivery must not change");
    // Only passing time can show that nothing happens at the end of the lease.
    tokio::time::sleep(SHORT + Duration::from_millis(40)).await;
    assert_eq!(claim_deliveries(&*store, 10, LONG).await, vec![], "a settled delivery must not be claimed");
}

/// A delivery may be recorded as given up: it is listed with its run, is not claimed, and can be resent.
pub async fn a_delivery_given_up_from_the_start_is_kept_and_can_be_resent(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let run = running(&*store, &webhook).await;
    let dropped = DeliveryOutcome::Dropped { error: "no room".to_owned() };
    let told = delivery(run.id(), "a@example.com").after(&dropped);
    applied(settle(&*store, &run, success_with(vec![told.clone()])).await);
    assert_eq!(of(&*store, &told).await, told);
    assert_eq!(store.health().await.must("tell its health").pending_deliveries, 0);
    assert_eq!(claim_deliveries(&*store, 10, LONG).await, vec![]);
    let resent = store.resend_delivery(told.id, now()).await.must("resend a delivery");
    assert_eq!(claim_deliveries(&*store, 10, LONG).await, vec![resent]);
}

/// An outcome under an earlier claim neither changes nor repeats a later try, unless it is a success.
pub async fn an_outcome_that_comes_too_late_changes_nothing(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let told = delivering(&*store, &webhook, 1).await.remove(0);
    assert_eq!(claim_deliveries(&*store, 1, SHORT).await, vec![told.clone()]);
    assert_eq!(claim_when_due(&*store).await, told, "its lease is over");
    let busy = DeliveryOutcome::Retry { error: "busy".to_owned(), delay: LONG, at: now() + LONG };
    settle_delivery(&*store, &told, busy.clone()).await;
    let after = told.after(&busy);
    assert_eq!(of(&*store, &told).await, after);
    for late in [
        DeliveryOutcome::GivenUp { error: "late".to_owned() },
        DeliveryOutcome::Dropped { error: "late".to_owned() },
        DeliveryOutcome::Retry { error: "late".to_owned(), delay: Duration::ZERO, at: now() },
    ] {
        settle_delivery(&*store, &told, late.clone()).await;
        assert_eq!(of(&*store, &told).await, after, "{late:?} of an earlier claim must change nothing");
        assert_eq!(claim_deliveries(&*store, 1, LONG).await, vec![], "it must wait for its pause");
    }
    settle_delivery(&*store, &told, DeliveryOutcome::Delivered).await;
    let sent = of(&*store, &told).await;
    assert_eq!(sent.state, DeliveryState::Delivered, "what the other side has must not go out again");
}

/// The outcome of a try that began before a resend does not count for the new try.
pub async fn an_outcome_from_before_a_resend_changes_nothing(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let told = delivering(&*store, &webhook, 1).await.remove(0);
    claim_deliveries(&*store, 1, LONG).await;
    let resent = store.resend_delivery(told.id, now() + Duration::from_millis(5)).await;
    let resent = resent.must("resend a delivery");
    settle_delivery(&*store, &told, DeliveryOutcome::Delivered).await;
    assert_eq!(of(&*store, &told).await, resent);
    assert_eq!(claim_deliveries(&*store, 1, LONG).await, vec![resent]);
}

/// Deliveries of channels that are not requested are neither claimed nor leased.
pub async fn only_deliveries_that_are_asked_for_are_claimed(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let mails = delivering(&*store, &webhook, 3).await;
    let slack = delivering_to_slack(&*store, &webhook).await;
    let claim = async |limit, channels| {
        let request = DeliveryClaimRequest::new(limit, LONG).through(channels);
        store.claim_deliveries(request).await.must("claim deliveries")
    };
    let but = |channel| Channels::Except(BTreeSet::from([channel]));
    assert_eq!(claim(9, Channels::Except(BTreeSet::from([Channel::EMAIL, Channel::SLACK]))).await, vec![]);
    assert_eq!(claim(9, but(Channel::EMAIL)).await, vec![slack], "later ones must be found behind others");
    assert_eq!(claim(9, Channels::Only(Channel::SLACK)).await, vec![], "it is leased");
    assert_eq!(claim(1, Channels::Only(Channel::EMAIL)).await.len(), 1, "those left out must not be leased");
    assert_eq!(claim(9, but(Channel::SLACK)).await.len(), mails.len() - 1);
    assert_eq!(claim(9, Channels::default()).await, vec![]);
}

/// A claimed delivery whose lease has expired is claimed again.
pub async fn a_delivery_whose_lease_is_over_is_given_out_again(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let told = delivering(&*store, &webhook, 1).await.remove(0);
    assert_eq!(claim_deliveries(&*store, 1, SHORT).await, vec![told.clone()]);
    assert_eq!(claim_when_due(&*store).await, told);
    settle_delivery(&*store, &told, DeliveryOutcome::Delivered).await;
    assert_eq!(of(&*store, &told).await.attempts, 1);
}

/// A resent delivery is due at once, with its count of tries reset; an unknown one is not found.
pub async fn a_resent_delivery_is_due_at_once(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let told = delivering(&*store, &webhook, 1).await.remove(0);
    for outcome in [
        DeliveryOutcome::Delivered,
        DeliveryOutcome::GivenUp { error: "no such address".to_owned() },
        DeliveryOutcome::Retry { error: "busy".to_owned(), delay: LONG, at: now() + LONG },
    ] {
        settle_delivery(&*store, &of(&*store, &told).await, outcome).await;
        let before = of(&*store, &told).await;
        let at = now();
        let resent = store.resend_delivery(told.id, at).await.must("resend a delivery");
        assert_eq!(resent, before.resent(at));
        assert_eq!((resent.state, resent.attempts), (DeliveryState::Pending, 0));
        assert_eq!(of(&*store, &told).await, resent);
        assert_eq!(claim_deliveries(&*store, 10, LONG).await, vec![resent]);
    }
    let unknown = store.resend_delivery(DeliveryId::generate(now()), now()).await;
    assert!(matches!(unknown, Err(StoreError::NotFound(_))), "an unknown delivery was resent: {unknown:?}");
}

/// Deliveries of all runs are found newest first, by every combination of state and channel.
pub async fn deliveries_are_found_by_state_and_channel(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let mut all = Vec::new();
    for _ in 0..9 {
        let run = running(&*store, &webhook).await;
        let mut slack = delivery(run.id(), "#ops");
        slack.channel = Channel::SLACK;
        let told = vec![delivery(run.id(), "a@example.com"), slack];
        applied(settle(&*store, &run, success_with(told.clone())).await);
        all.extend(told);
    }
    let outcome = |index: usize| match index % 3 {
        0 => Some(DeliveryOutcome::Delivered),
        1 => Some(DeliveryOutcome::GivenUp { error: "no such address".to_owned() }),
        _ => None,
    };
    let settled = |(index, told): (usize, &Delivery)| {
        outcome(index).map(|outcome| DeliverySettlement::new(told, outcome))
    };
    let settlements = all.iter().enumerate().filter_map(settled).collect();
    store.settle_deliveries(settlements).await.must("settle deliveries");
    let now_is =
        |(index, told): (usize, &Delivery)| outcome(index).map_or(told.clone(), |it| told.after(&it));
    let mut expected: Vec<Delivery> = all.iter().enumerate().map(now_is).collect();
    expected.sort_by_key(|told| std::cmp::Reverse(told.id));
    for state in [None].into_iter().chain(DeliveryState::ALL.map(Some)) {
        for channel in [None, Some(Channel::EMAIL), Some(Channel::SLACK)] {
            let query = DeliveryQuery::default().in_state(state).through(channel);
            let wanted: Vec<_> = expected.iter().filter(|told| query.matches(told)).cloned().collect();
            assert!(wanted.len() >= 3);
            for limit in [1, 2, 100] {
                let found = found(&*store, query.limit(limit)).await;
                assert_eq!(found, wanted, "in state {state:?} through {channel:?} by {limit}");
            }
        }
    }
}

/// A walk over the pages of deliveries returns each that matches throughout exactly once, while others
/// change.
pub async fn finding_deliveries_is_stable_while_they_change(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let mut there = Vec::new();
    for _ in 0..4 {
        there.extend(delivering(&*store, &webhook, 3).await);
    }
    let give_up = async |told: &[Delivery]| {
        let given_up = DeliveryOutcome::GivenUp { error: "no such address".to_owned() };
        let given_up = |told| DeliverySettlement::new(told, given_up.clone());
        store.settle_deliveries(told.iter().map(given_up).collect()).await.must("settle deliveries");
    };
    give_up(&there).await;
    let query = DeliveryQuery::default().in_state(Some(DeliveryState::GivenUp)).limit(2);
    let (mut seen, mut before, mut resent) = (Vec::new(), None, BTreeSet::new());
    for round in 0.. {
        let page = store.find_deliveries(query.before(before)).await.must("find deliveries");
        seen.extend(page.items.iter().map(|told| told.id));
        let fresh = delivering(&*store, &webhook, 1).await;
        give_up(&fresh).await;
        if let Some(gone) = there.get(2 * round) {
            store.resend_delivery(gone.id, now()).await.must("resend a delivery");
            resent.insert(gone.id);
        }
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert_newest_first(&seen);
    for id in there.iter().map(|told| told.id).filter(|id| !resent.contains(id)) {
        assert!(seen.contains(&id), "delivery {id} was given up throughout the walk and was not seen");
    }
}

/// Collects the deliveries of all pages.
async fn found(store: &dyn Store, query: DeliveryQuery) -> Vec<Delivery> {
    let (mut all, mut before) = (Vec::new(), None);
    loop {
        let page = store.find_deliveries(query.before(before)).await.must("find deliveries");
        assert!(
            page.items.len() <= query.limit,
            "a page of at most {} had {}",
            query.limit,
            page.items.len()
        );
        all.extend(page.items);
        before = page.next;
        if before.is_none() {
            return all;
        }
    }
}

async fn claim_deliveries(store: &dyn Store, limit: usize, lease: Duration) -> Vec<Delivery> {
    let claimed =
        store.claim_deliveries(DeliveryClaimRequest::new(limit, lease)).await.must("claim deliveries");
    assert!(claimed.len() <= limit, "{} deliveries were claimed instead of {limit}", claimed.len());
    claimed
}

async fn claim_when_due(store: &dyn Store) -> Delivery {
    within("a delivery to come due", async {
        loop {
            if let Some(delivery) = claim_deliveries(store, 1, LONG).await.pop() {
                return delivery;
            }
            store.wait_for_work(any_delivery()).await;
        }
    })
    .await
}

async fn of(store: &dyn Store, delivery: &Delivery) -> Delivery {
    let mut listed = store.list_deliveries(&[delivery.run]).await.must("list deliveries");
    listed.pop().must("keep a delivery")
}
