//! Runs the conformance suite on the memory store, on the same behind `Arc<dyn Store>`, and on broken stores
//! that it must detect.

mod broken_store;
mod kept_records;

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;

use tokio::task::{JoinError, LocalSet};
use webhook_core::memory::MemoryStore;
use webhook_core::store::Store;
use webhook_testing::conformance;

use broken_store::{BrokenStore, Defect};
use kept_records::{KeptRecords, RecordDefect};

mod memory_store {
    use super::*;

    webhook_testing::conformance_tests!(Arc::new(MemoryStore::new()));
}

mod memory_store_behind_a_trait_object {
    use super::*;

    fn shared() -> Arc<dyn Store> {
        Arc::new(MemoryStore::new())
    }

    webhook_testing::conformance_tests!((Arc::new(shared()), "kept as long"));
}

mod records_opened_again {
    use super::*;

    webhook_testing::conformance_tests!(opened_again: KeptRecords::opener(RecordDefect::None));
}

mod store_without_calls {
    use super::*;

    webhook_testing::conformance_tests!(without_calls: Arc::new(BrokenStore::new(Defect::HasNoCallStore)));
}

#[test]
fn every_promise_has_a_name_of_its_own() {
    let names: BTreeSet<&str> = conformance::PROMISES.iter().copied().collect();
    assert_eq!(names.len(), conformance::PROMISES.len());
    assert!(names.contains("agrees_with_a_simple_model"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_without_a_defect_passes_through_the_wrapper() {
    keeps(Defect::None, conformance::a_stale_fence_changes_nothing).await;
    keeps(Defect::None, conformance::listing_is_stable_while_runs_change).await;
    keeps(Defect::None, conformance::agrees_with_a_simple_model).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_forgets_the_fence_is_found_out() {
    breaks(Defect::ForgetsTheFence, conformance::a_stale_fence_changes_nothing).await;
    breaks(Defect::ForgetsTheFence, conformance::only_the_exact_fence_holds).await;
    breaks(Defect::ForgetsTheFence, conformance::agrees_with_a_simple_model).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_logs_under_any_fence_is_found_out() {
    breaks(Defect::LogsUnderAnyFence, conformance::a_log_is_read_from_any_offset).await;
    breaks(Defect::LogsUnderAnyFence, conformance::a_stale_fence_changes_nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_gives_a_run_out_twice_is_found_out() {
    breaks(Defect::ClaimsTwice, conformance::each_run_goes_to_one_claimer).await;
    breaks(Defect::ClaimsTwice, conformance::runs_are_claimed_oldest_first).await;
    breaks(Defect::ClaimsTwice, conformance::no_more_runs_than_the_bound_are_claimed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_takes_runs_of_other_workflows_is_found_out() {
    breaks(Defect::ClaimsAnyWorkflow, conformance::only_runs_of_the_workflows_asked_for_are_claimed).await;
    breaks(Defect::WaitsForAllWorkflows, conformance::runs_of_other_workflows_wake_nobody_for_long).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_forgets_calls_is_found_out() {
    breaks(Defect::ForgetsCalls, conformance::a_rate_is_one_for_all_calls_of_a_webhook).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_ignores_keys_is_found_out() {
    breaks(Defect::IgnoresKeys, conformance::enqueue_is_idempotent_under_one_key).await;
    breaks(Defect::IgnoresKeys, conformance::a_key_with_another_request_is_a_mismatch).await;
    breaks(Defect::IgnoresKeys, conformance::a_key_may_stand_for_any_request).await;
    breaks(Defect::IgnoresKeys, conformance::a_dropped_enqueue_can_be_repeated).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_trusts_what_its_caller_read_is_found_out() {
    breaks(Defect::TrustsTheCaller, conformance::a_replaced_token_starts_nothing).await;
    breaks(Defect::TrustsTheCaller, conformance::a_disabled_webhook_starts_nothing_but_manual_runs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_drops_deliveries_is_found_out() {
    breaks(Defect::DropsDeliveries, conformance::an_outcome_comes_with_its_deliveries).await;
    breaks(Defect::DropsDeliveries, conformance::each_delivery_goes_to_one_claimer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_whose_pages_shift_is_found_out() {
    breaks(Defect::ShiftsPages, conformance::listing_is_stable_while_runs_change).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_prunes_live_runs_is_found_out() {
    breaks(Defect::PrunesLiveRuns, conformance::a_live_run_is_never_pruned).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_prunes_one_too_many_is_found_out() {
    breaks(Defect::PrunesWithoutBound, conformance::a_prune_is_bounded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_overwrites_is_found_out() {
    breaks(Defect::Overwrites, conformance::an_update_demands_the_expected_revision).await;
    breaks(Defect::Overwrites, conformance::of_updates_at_once_one_wins).await;
    breaks(Defect::Overwrites, conformance::a_deletion_demands_the_expected_revision).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_polls_is_found_out() {
    breaks(Defect::Polls, conformance::waiting_is_no_busy_loop).await;
    breaks(Defect::Polls, conformance::work_of_the_other_sort_wakes_nobody_for_long).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_heeds_no_channels_is_found_out() {
    breaks(Defect::LeasesOtherChannels, conformance::only_deliveries_that_are_asked_for_are_claimed).await;
    breaks(Defect::WaitsForAllChannels, conformance::deliveries_of_other_channels_wake_nobody_for_long).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_takes_late_outcomes_is_found_out() {
    breaks(Defect::TakesLateOutcomes, conformance::an_outcome_that_comes_too_late_changes_nothing).await;
    breaks(Defect::TakesLateOutcomes, conformance::an_outcome_from_before_a_resend_changes_nothing).await;
}

/// Time is paused, so waiting for an event that never comes takes no time.
#[tokio::test(start_paused = true)]
async fn a_store_that_tells_no_gap_is_found_out() {
    breaks(Defect::HidesGaps, conformance::who_falls_behind_misses_nothing_unknowingly).await;
    breaks(Defect::HidesGaps, conformance::a_foreign_cursor_is_a_gap).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_whose_handles_give_cursors_of_their_own_is_found_out() {
    breaks(Defect::GivesCursorsOfItsOwn, conformance::every_reader_gets_the_same_events).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_loses_old_calls_is_found_out() {
    breaks(Defect::LosesOldCalls, conformance::calls_are_listed_newest_first_in_pages).await;
    breaks(Defect::LosesOldCalls, conformance::the_newest_calls_of_each_webhook_are_kept).await;
}

/// Neither form of the suite passes over what a store lacks.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_without_calls_is_tested_by_the_form_for_it() {
    breaks(Defect::HasNoCallStore, conformance::a_rate_is_one_for_all_calls_of_a_webhook).await;
    breaks(Defect::HasNoCallStore, conformance::a_call_is_appended_once).await;
    breaks(Defect::None, conformance::calls_are_left_to_the_service).await;
}

/// Time is paused, so waiting for a run that never comes takes no time.
#[tokio::test(start_paused = true)]
async fn records_that_load_nothing_are_found_out() {
    let open = || KeptRecords::opener(RecordDefect::LoadsNothing);
    breaks_opened_again(conformance::webhooks_are_found_again(open())).await;
    breaks_opened_again(conformance::queued_runs_are_claimed_again(open())).await;
    breaks_opened_again(conformance::a_running_run_is_executed_again(open())).await;
    breaks_opened_again(conformance::keys_hold_when_opened_again(open())).await;
    breaks_opened_again(conformance::pending_deliveries_are_claimed_again(open())).await;
}

#[tokio::test]
async fn records_that_ignore_a_key_are_found_out() {
    let open = KeptRecords::opener(RecordDefect::IgnoresPutKey);
    breaks_opened_again(conformance::keys_hold_when_opened_again(open)).await;
}

#[tokio::test]
async fn records_that_keep_a_removed_key_are_found_out() {
    let open = KeptRecords::opener(RecordDefect::IgnoresRemoveKey);
    breaks_opened_again(conformance::a_removed_key_does_not_come_back(open)).await;
}

async fn keeps<F: Future<Output = ()> + Send + 'static>(defect: Defect, promise: fn(Arc<dyn Store>) -> F) {
    if let Err(message) = outcome(defect, promise).await {
        panic!("a store with {defect:?} must keep this promise, but: {message}");
    }
}

async fn breaks<F: Future<Output = ()> + Send + 'static>(defect: Defect, promise: fn(Arc<dyn Store>) -> F) {
    match outcome(defect, promise).await {
        Ok(()) => panic!("a store that {defect:?} was not found out"),
        Err(message) => assert!(!message.is_empty(), "a broken promise must be named"),
    }
}

/// Asserts that a check of records that are opened again fails.
async fn breaks_opened_again(trial: impl Future<Output = ()> + 'static) {
    let tasks = LocalSet::new();
    let Err(error) = tasks.run_until(async { tokio::task::spawn_local(trial).await }).await else {
        panic!("records with a defect were not found out");
    };
    assert!(!message(error).is_empty(), "a broken promise must be named");
}

/// Returns the result of a promise's check on a store with this defect.
async fn outcome<F: Future<Output = ()> + Send + 'static>(
    defect: Defect,
    promise: fn(Arc<dyn Store>) -> F,
) -> Result<(), String> {
    let trial = tokio::spawn(promise(Arc::new(BrokenStore::new(defect))));
    trial.await.map_err(message)
}

/// Returns the message of a panic.
fn message(error: JoinError) -> String {
    let panic = error.into_panic();
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}
