//! The conformance suite: each promise of a [store](webhook_core::store) as a public function, for tests of
//! stores.
//!
//! Each function takes a fresh, empty store, and panics with a sentence that names the broken promise.
//! [`conformance_tests!`](crate::conformance_tests) makes one test of each, so a store's crate runs all of them with one line in its tests:
//!
//! ```
//! webhook_testing::conformance_tests!(std::sync::Arc::new(webhook_core::memory::MemoryStore::new()));
//! # fn main() {}
//! ```
//!
//! The expression is evaluated inside each test, so it may await. It returns an `Arc` of a store, or a pair
//! of a store and a value that must live as long, such as a temporary folder.
//! The crate that uses it needs `tokio` with `rt-multi-thread`, `macros` and `time`.
//!
//! A store that one process opens must find its records again after a restart. The form `opened_again:` tests that as well.
//! It takes an async closure that opens the store of one place. The place is empty at the first call. Before each further
//! call, the suite [closes](webhook_core::store::Store::close) and drops the former store. The closure keeps the place, such as a
//! temporary folder:
//!
//! ```
//! # mod my_store {
//! #     pub use webhook_core::memory::MemoryStore as MyStore;
//! #     pub fn open_in(_: &std::path::Path) -> MyStore { MyStore::new() }
//! # }
//! webhook_testing::conformance_tests!(opened_again: {
//!     let folder = std::env::temp_dir(); // a new, empty folder, such as one of the crate `tempfile`
//!     async move || my_store::open_in(&folder)
//! });
//! # fn main() {}
//! ```
//!
//! A store that several processes share is tested through two handles as well. [`StoreHandles`] opens them, and
//! [`InTurns`] shares the calls among them:
//!
//! ```
//! webhook_testing::conformance_tests!(handles: std::sync::Arc::new(webhook_core::memory::MemoryStore::new()));
//! # fn main() {}
//! ```
//!
//! These forms hold the store to the promises of [`CallStore`](webhook_core::store::CallStore), and fail without that optional
//! part. A store that leaves calls to the service is tested by `conformance_tests!(without_calls: …)`,
//! `conformance_tests!(without_calls, opened_again: …)`, or `conformance_tests!(without_calls, handles: …)`. These fail once the store has the part.
//!
//! A promise is tested through the trait only, with real concurrency and in real time. Most tests take
//! milliseconds.
//! Tests with another process, a crash in the middle of a write or a full disk are left to the store's own crate.

mod calls;
mod claiming;
mod deliveries;
mod dropping;
mod enqueueing;
mod events;
mod handles;
mod listing;
mod logs;
mod model;
mod opening;
mod overlap;
mod pruning;
mod queue;
mod scene;
mod settling;
mod waiting;
mod webhooks;

use std::sync::Arc;

use webhook_core::store::Store;

pub use handles::{InTurns, StoreHandles};

/// Input of [`conformance_tests!`](crate::conformance_tests): a store, or a store and a value that must live
/// as long.
pub trait IntoStore {
    /// Value that must live as long as the store.
    type Kept;

    /// Splits it into the store and that value.
    fn into_store(self) -> (Arc<dyn Store>, Self::Kept);
}

impl<S: Store> IntoStore for Arc<S> {
    type Kept = ();

    fn into_store(self) -> (Arc<dyn Store>, ()) {
        (self, ())
    }
}

impl IntoStore for Arc<dyn Store> {
    type Kept = ();

    fn into_store(self) -> (Arc<dyn Store>, ()) {
        (self, ())
    }
}

impl<S: IntoStore, K> IntoStore for (S, K) {
    type Kept = (S::Kept, K);

    fn into_store(self) -> (Arc<dyn Store>, Self::Kept) {
        let (store, kept) = self.0.into_store();
        (store, (kept, self.1))
    }
}

/// Expands the lists of promises into public functions, and into the macro that tests them.
///
/// A promise that is not on a list is dead code, which the compiler reports.
macro_rules! promises {
    ($dollar:tt
        of_every_store { $($module:ident: $($promise:ident),+;)+ }
        with_calls { $($with:ident: $($with_calls:ident),+;)+ }
        without_calls { $without:ident: $without_calls:ident; }
        opened_again { $opening:ident: $($opened_again:ident),+; }
    ) => {
        $(pub use $module::{$($promise),+};)+
        $(pub use $with::{$($with_calls),+};)+
        pub use $without::$without_calls;
        pub use $opening::{$($opened_again),+};

        /// Names of all promises, those of the optional part for calls and those of a store that is opened again at the end.
        pub const PROMISES: &[&str] = &[
            $($(stringify!($promise)),+),+,
            $($(stringify!($with_calls)),+),+,
            stringify!($without_calls),
            $(stringify!($opened_again)),+,
        ];

        /// Makes a test of every promise in [`conformance`](crate::conformance), each with its own store.
        ///
        /// See [the module](crate::conformance) for its input and requirements.
        #[macro_export]
        macro_rules! conformance_tests {
            (without_calls, handles: $dollar handles:expr $dollar (,)?) => {
                $dollar crate::conformance_tests!(@through_handles [without_calls:] $dollar handles);
            };
            (handles: $dollar handles:expr $dollar (,)?) => {
                $dollar crate::conformance_tests!(@through_handles [] $dollar handles);
            };
            (without_calls, opened_again: $dollar open:expr $dollar (,)?) => {
                $dollar crate::conformance_tests!(@opened_again [without_calls:] $dollar open);
            };
            (opened_again: $dollar open:expr $dollar (,)?) => {
                $dollar crate::conformance_tests!(@opened_again [] $dollar open);
            };
            (without_calls: $dollar store:expr $dollar (,)?) => {
                $dollar crate::conformance_tests!(@of_every_store $dollar store);
                $dollar crate::conformance_tests!(@test $without_calls, $dollar store);
            };
            (@through_handles [$dollar ($dollar part:tt)*] $dollar handles:expr) => {
                mod one_handle {
                    #[allow(unused_imports, reason = "the expression that opens a store may need none")]
                    use super::*;
                    $dollar crate::conformance_tests!($dollar ($dollar part)* {
                        let handles = $dollar handles;
                        ($dollar crate::conformance::StoreHandles::open(&handles).await, handles)
                    });
                }

                mod two_handles {
                    #[allow(unused_imports, reason = "the expression that opens a store may need none")]
                    use super::*;
                    $dollar crate::conformance_tests!($dollar ($dollar part)* {
                        let handles = $dollar handles;
                        let store = $dollar crate::conformance::InTurns::open(&handles).await;
                        (::std::sync::Arc::new(store), handles)
                    });
                }
            };
            (@opened_again [$dollar ($dollar part:tt)*] $dollar open:expr) => {
                $dollar crate::conformance_tests!($dollar ($dollar part)* {
                    let open = $dollar open;
                    (::std::sync::Arc::new(open().await), open)
                });
                $($dollar crate::conformance_tests!(@test_opened_again $opened_again, $dollar open);)+
            };
            (@test_opened_again $dollar promise:ident, $dollar open:expr) => {
                #[::tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $dollar promise() {
                    $dollar crate::conformance::$dollar promise($dollar open).await;
                }
            };
            (@of_every_store $dollar store:expr) => {
                $($($dollar crate::conformance_tests!(@test $promise, $dollar store);)+)+
            };
            (@test $dollar promise:ident, $dollar store:expr) => {
                #[::tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $dollar promise() {
                    let (store, _kept) = $dollar crate::conformance::IntoStore::into_store($dollar store);
                    $dollar crate::conformance::$dollar promise(store).await;
                }
            };
            ($dollar store:expr $dollar (,)?) => {
                $dollar crate::conformance_tests!(@of_every_store $dollar store);
                $($($dollar crate::conformance_tests!(@test $with_calls, $dollar store);)+)+
            };
        }
    };
}

promises! { $
of_every_store {
    webhooks:
        a_created_webhook_is_found_by_id_and_by_digest,
        creating_what_exists_conflicts,
        an_update_demands_the_expected_revision,
        of_updates_at_once_one_wins,
        an_update_cannot_take_anothers_digest,
        a_replaced_token_finds_nothing,
        an_update_leaves_the_last_use_alone,
        uses_move_forward_only,
        new_settings_hold_for_later_claims,
        a_deleted_webhook_is_gone,
        a_deletion_demands_the_expected_revision,
        of_an_update_and_a_deletion_at_once_one_wins,
        deleting_a_webhook_cancels_what_waits_and_keeps_what_was,
        a_run_of_a_deleted_webhook_is_not_executed_again,
        webhooks_are_listed_newest_first_and_by_workflow,
        listing_webhooks_is_stable_while_they_change;
    enqueueing:
        an_enqueued_run_is_there_at_once,
        a_run_needs_its_webhook,
        a_replaced_token_starts_nothing,
        a_disabled_webhook_starts_nothing_but_manual_runs,
        a_token_replaced_at_once_with_calls_starts_nothing_afterwards,
        a_run_id_is_recorded_once,
        a_key_finds_its_run_in_its_present_state,
        a_key_with_another_request_is_a_mismatch,
        a_key_may_stand_for_any_request,
        each_webhook_has_its_own_keys,
        enqueue_is_idempotent_under_one_key,
        a_key_is_free_after_its_time,
        a_webhooks_queue_limit_holds,
        the_queue_limit_over_all_holds,
        a_full_queue_neither_hides_nor_burns_keys,
        parameters_survive_exactly,
        large_parameters_and_outputs_survive;
    queue:
        the_bytes_of_queued_parameters_are_bounded,
        a_refused_run_leaves_the_bound_as_it_is,
        a_queued_runs_parameters_come_back_exactly,
        deleting_a_webhook_ends_all_that_waits_for_it;
    overlap:
        no_more_runs_than_the_bound_are_claimed,
        claimers_at_once_keep_to_the_bound,
        skip_records_a_run_that_is_never_executed,
        replace_stops_the_running_and_ends_the_waiting_run,
        coalesce_lets_the_newest_wait,
        queue_lets_every_run_wait;
    claiming:
        each_run_goes_to_one_claimer,
        runs_are_claimed_oldest_first,
        no_webhook_waits_behind_the_backlog_of_another,
        only_runs_of_the_workflows_asked_for_are_claimed,
        a_claim_marks_the_run_as_running,
        fences_grow_with_every_claim,
        a_run_whose_lease_is_over_comes_back,
        a_run_interrupted_too_often_gets_no_further_attempt,
        a_stale_fence_changes_nothing,
        only_the_exact_fence_holds,
        what_is_claimed_ahead_stays_queued_until_it_begins,
        what_is_claimed_ahead_counts_towards_the_bound,
        what_was_claimed_ahead_can_be_settled_at_once,
        what_is_claimed_ahead_is_asked_to_stop,
        a_renewed_claim_holds_on,
        a_renewal_says_when_to_stop,
        a_run_asked_to_stop_begins_no_further_attempt;
    settling:
        endings_are_recorded_as_given,
        an_outcome_comes_with_its_deliveries,
        every_character_survives_in_every_text,
        settlements_are_answered_in_order,
        a_retry_waits_for_its_due_time,
        a_hand_back_counts_as_nothing,
        a_queued_run_is_cancelled_at_once,
        a_run_that_waits_for_its_retry_is_cancelled,
        a_running_run_is_asked_to_stop,
        cancelling_what_has_ended_changes_nothing,
        health_counts_what_is_there;
    listing:
        runs_are_listed_by_every_combination,
        a_run_is_listed_in_its_present_state_only,
        pages_follow_each_other,
        listing_is_stable_while_runs_change,
        listing_is_stable_under_concurrent_writers;
    pruning:
        ended_runs_go_after_their_retention,
        each_webhooks_own_retention_counts,
        the_newest_ended_runs_of_each_webhook_are_kept,
        a_prune_is_bounded,
        a_live_run_is_never_pruned,
        nothing_of_a_pruned_run_is_left,
        a_run_with_a_pending_delivery_stays,
        a_run_whose_key_is_kept_is_not_pruned,
        every_ending_is_pruned;
    logs:
        a_log_is_read_from_any_offset,
        each_run_has_its_own_log,
        the_newest_lines_of_a_long_log_are_kept,
        a_line_longer_than_the_log_is_cut,
        an_offset_inside_a_character_is_no_error;
    waiting:
        a_new_run_wakes_who_waits,
        no_wake_up_is_lost_between_claim_and_wait,
        due_times_leases_and_room_wake_who_waits,
        new_settings_wake_who_waits,
        deliveries_wake_who_waits_for_them,
        waiting_is_no_busy_loop,
        work_of_the_other_sort_wakes_nobody_for_long,
        deliveries_of_other_channels_wake_nobody_for_long,
        runs_of_other_workflows_wake_nobody_for_long;
    events:
        the_present_cursor_is_answered_at_once,
        every_change_of_state_is_an_event,
        the_event_of_an_end_carries_its_deliveries,
        runs_that_never_execute_are_events_too,
        progress_and_log_lines_are_events,
        events_go_on_after_a_cursor,
        every_reader_gets_the_same_events,
        a_foreign_cursor_is_a_gap,
        who_falls_behind_misses_nothing_unknowingly;
    deliveries:
        each_delivery_goes_to_one_claimer,
        deliveries_are_claimed_earliest_first,
        only_deliveries_that_are_asked_for_are_claimed,
        deliveries_of_a_run_are_listed_oldest_first,
        a_failed_try_is_repeated_after_its_pause,
        a_settled_delivery_is_done,
        an_outcome_that_comes_too_late_changes_nothing,
        an_outcome_from_before_a_resend_changes_nothing,
        a_delivery_given_up_from_the_start_is_kept_and_can_be_resent,
        a_delivery_whose_lease_is_over_is_given_out_again,
        a_resent_delivery_is_due_at_once,
        deliveries_are_found_by_state_and_channel,
        finding_deliveries_is_stable_while_they_change;
    dropping:
        reads_and_waits_may_be_dropped,
        a_dropped_wait_loses_no_wake_up,
        a_dropped_enqueue_can_be_repeated,
        a_store_can_be_closed_twice;
    model:
        agrees_with_a_simple_model;
}
with_calls {
    calls:
        a_rate_is_one_for_all_calls_of_a_webhook,
        a_bucket_refills_by_its_rate,
        a_call_is_read_back_as_it_was_appended,
        calls_are_listed_newest_first_in_pages,
        listing_calls_is_stable_while_they_are_appended,
        the_newest_calls_of_each_webhook_are_kept,
        calls_of_all_webhooks_are_bounded_in_bytes,
        a_call_is_appended_once,
        calls_belong_to_a_webhook_that_exists,
        appended_calls_are_an_event_of_each_webhook,
        the_content_of_a_call_is_kept_until_it_expires,
        expired_contents_are_pruned,
        the_contents_of_a_webhook_are_bounded_in_bytes,
        a_content_goes_with_its_call;
}
without_calls {
    calls: calls_are_left_to_the_service;
}
opened_again {
    opening:
        webhooks_are_found_again,
        a_deleted_webhook_stays_deleted,
        queued_runs_are_claimed_again,
        a_running_run_is_executed_again,
        ended_runs_are_there_again,
        keys_hold_when_opened_again,
        a_removed_key_does_not_come_back,
        pending_deliveries_are_claimed_again,
        a_pruned_run_stays_away;
}
}
