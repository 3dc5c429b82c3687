//! Counters of calls and of refusals.

use std::fmt;
use std::sync::Arc;

use metrics::{Counter, counter, describe_counter};

use crate::contract::problem::Problem;
use crate::contract::slug::Slug;

/// Outcome of a trigger call that was not refused.
#[derive(Clone, Copy)]
pub(crate) enum Answered {
    Accepted,
    Replayed,
    DryRun,
    Handshake,
    Ignored,
}

/// Counters of trigger calls, one for each outcome.
#[derive(Clone)]
pub(crate) struct CallMeters {
    accepted: Counter,
    replayed: Counter,
    dry_run: Counter,
    handshake: Counter,
    ignored: Counter,
    refused: RefusalMeters,
}

/// One counter for each kind of problem, in the order of [`Slug::ALL`].
#[derive(Clone)]
pub(crate) struct RefusalMeters(Arc<[Counter]>);

impl fmt::Debug for RefusalMeters {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("RefusalMeters")
    }
}

impl RefusalMeters {
    pub(crate) fn of_management() -> Self {
        let name = "webhook_management_refusals_total";
        describe_counter!(name, "Management requests that were refused, by problem");
        Self(Slug::ALL.iter().map(|slug| counter!(name, "problem" => slug.as_str())).collect())
    }

    pub(crate) fn refused(&self, problem: &Problem) {
        if let Some(counter) = self.0.get(problem.slug() as usize) {
            counter.increment(1);
        }
    }
}

impl fmt::Debug for CallMeters {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("CallMeters")
    }
}

impl CallMeters {
    pub(crate) fn new() -> Self {
        describe_counter!("webhook_calls_total", "Trigger calls, by how they were answered");
        let calls = |outcome: &'static str| counter!("webhook_calls_total", "outcome" => outcome);
        Self {
            accepted: calls("accepted"),
            replayed: calls("replayed"),
            dry_run: calls("dry-run"),
            handshake: calls("handshake"),
            ignored: calls("ignored"),
            refused: RefusalMeters(Slug::ALL.iter().map(|slug| calls(slug.as_str())).collect()),
        }
    }

    pub(crate) fn answered(&self, answered: Answered) {
        match answered {
            Answered::Accepted => &self.accepted,
            Answered::Replayed => &self.replayed,
            Answered::DryRun => &self.dry_run,
            Answered::Handshake => &self.handshake,
            Answered::Ignored => &self.ignored,
        }
        .increment(1);
    }

    pub(crate) fn refused(&self, problem: &Problem) {
        self.refused.refused(problem);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_stand_in_their_own_order() {
        for (place, slug) in Slug::ALL.into_iter().enumerate() {
            assert_eq!(slug as usize, place);
        }
    }
}
