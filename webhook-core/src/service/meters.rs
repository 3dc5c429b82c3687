//! Metrics of a service. Without a recorder, counting costs next to nothing.
//!
//! A host that wants metrics installs a recorder before it builds the service, since the counters are created
//! then. No label holds an id.

use metrics::{Counter, Histogram, counter, describe_counter, describe_histogram, histogram};

use crate::notifier::DeliveryOutcome;
use crate::run::{Ending, Run};
use crate::store::Outcome;
use crate::webhook::Channel;

/// Counters of one service, created once, so that counting needs no look-up.
pub(super) struct Meters {
    succeeded: Counter,
    failed: Counter,
    timed_out: Counter,
    cancelled: Counter,
    retried: Counter,
    handed_back: Counter,
    run_duration: Histogram,
    delivered: Counter,
    delivery_retried: Counter,
    delivery_given_up: Counter,
    delivery_dropped: Counter,
}

impl Meters {
    /// Creates the counters, and the gauges of these channels.
    pub(super) fn new(channels: impl IntoIterator<Item = Channel>) -> Self {
        describe_counter!("webhook_attempts_total", "Attempts that are over, by how they ended");
        describe_counter!(
            "webhook_deliveries_total",
            "Tries of notifications, by how they ended, and those dropped without one"
        );
        outages::describe();
        for channel in channels {
            outages::ended(channel);
        }
        describe_histogram!(
            "webhook_run_duration_seconds",
            "How long runs took from their first attempt to their end"
        );
        let attempts = |outcome: &'static str| counter!("webhook_attempts_total", "outcome" => outcome);
        let deliveries = |outcome: &'static str| counter!("webhook_deliveries_total", "outcome" => outcome);
        Self {
            succeeded: attempts("succeeded"),
            failed: attempts("failed"),
            timed_out: attempts("timed_out"),
            cancelled: attempts("cancelled"),
            retried: attempts("retried"),
            handed_back: attempts("handed_back"),
            run_duration: histogram!("webhook_run_duration_seconds"),
            delivered: deliveries("delivered"),
            delivery_retried: deliveries("retried"),
            delivery_given_up: deliveries("given_up"),
            delivery_dropped: deliveries("dropped"),
        }
    }

    /// Counts the outcome of an attempt.
    pub(super) fn attempt(&self, outcome: &Outcome) {
        let counter = match outcome {
            Outcome::Retry { .. } => &self.retried,
            Outcome::HandBack => &self.handed_back,
            Outcome::Ended { ending, .. } => match ending {
                Ending::Succeeded { .. } => &self.succeeded,
                Ending::Failed { .. } => &self.failed,
                Ending::TimedOut(_) => &self.timed_out,
                Ending::Cancelled(_) | Ending::Skipped => &self.cancelled,
            },
        };
        counter.increment(1);
    }

    /// Records the duration of a run from its first attempt, if it has ended.
    pub(super) fn settled(&self, run: &Run) {
        let (Some(started), Some(finished)) = (run.started_at(), run.finished_at()) else { return };
        self.run_duration.record(finished.duration_since(started).unwrap_or_default());
    }

    /// Counts deliveries that were given up before their first try, for lack of space.
    pub(super) fn dropped(&self, count: usize) {
        self.delivery_dropped.increment(count as u64);
    }

    /// Counts the outcome of a delivery's try, or its omission.
    pub(super) fn delivery(&self, outcome: &DeliveryOutcome) {
        let counter = match outcome {
            DeliveryOutcome::Delivered => &self.delivered,
            DeliveryOutcome::Retry { .. } => &self.delivery_retried,
            DeliveryOutcome::GivenUp { .. } => &self.delivery_given_up,
            DeliveryOutcome::Dropped { .. } => &self.delivery_dropped,
        };
        counter.increment(1);
    }
}

/// Gauges of unreachable channels.
pub(super) mod outages {
    use metrics::{describe_gauge, gauge};

    use crate::webhook::Channel;

    const NAME: &str = "webhook_channel_out";

    pub(super) fn describe() {
        describe_gauge!(NAME, "1 while a channel cannot be reached, or its server refuses the credentials");
    }

    /// Reports that a channel is unreachable.
    pub(in crate::service) fn began(channel: Channel) {
        gauge!(NAME, "channel" => channel.to_string()).set(1.0);
    }

    /// Reports that a channel is reachable again.
    pub(in crate::service) fn ended(channel: Channel) {
        gauge!(NAME, "channel" => channel.to_string()).set(0.0);
    }
}
