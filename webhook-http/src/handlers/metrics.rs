//! `/metrics`: the counters of the service in the text format of Prometheus, and how trigger calls are counted.

use std::fmt;
use std::sync::Arc;

use http::StatusCode;
use metrics::{Counter, counter, describe_counter, describe_gauge, gauge};
use webhook_core::error::chain;

use crate::api::Api;
use crate::contract::problem::{Problem, Slug};
use crate::response::answer::{Answer, with_body};

/// Gives the text of all metrics, made by whatever recorder the host has installed.
#[derive(Clone)]
pub(crate) struct Renderer(Arc<dyn Fn() -> String + Send + Sync>);

impl Renderer {
    pub(crate) fn new(render: impl Fn() -> String + Send + Sync + 'static) -> Self {
        describe_gauge!("webhook_runs_queued", "Runs that wait");
        describe_gauge!("webhook_runs_executing", "Runs that execute");
        describe_gauge!("webhook_deliveries_pending", "Notifications that are not delivered yet");
        Self(Arc::new(render))
    }
}

impl fmt::Debug for Renderer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Renderer")
    }
}

/// `GET /metrics`. What is present, and not counted, is read now, so that it costs the calls nothing.
pub(crate) async fn metrics(api: &Api, renderer: &Renderer) -> Answer {
    match api.webhooks().health().await {
        Ok(health) => {
            gauge!("webhook_runs_queued").set(health.queued as f64);
            gauge!("webhook_runs_executing").set(health.running as f64);
            gauge!("webhook_deliveries_pending").set(health.pending_deliveries as f64);
        }
        Err(error) => tracing::warn!(error = chain(&error), "the store cannot say how much is queued"),
    }
    with_body(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", (renderer.0)())
}

/// How a trigger call was answered.
#[derive(Clone, Copy)]
pub(crate) enum Answered {
    Accepted,
    Replayed,
    DryRun,
}

/// The counters of trigger calls, one for each outcome.
#[derive(Clone)]
pub(crate) struct CallMeters {
    accepted: Counter,
    replayed: Counter,
    dry_run: Counter,
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
            refused: RefusalMeters(Slug::ALL.iter().map(|slug| calls(slug.as_str())).collect()),
        }
    }

    pub(crate) fn answered(&self, answered: Answered) {
        match answered {
            Answered::Accepted => &self.accepted,
            Answered::Replayed => &self.replayed,
            Answered::DryRun => &self.dry_run,
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
