//! Failures inside the service: logged when they begin, not with each request.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::contract::operation::Audience;
use crate::contract::problem::Problem;
use crate::response::answer::Answer;

/// Shortest pause between two log lines, so an intermittent failure does not fill the log.
const PAUSE: Duration = Duration::from_secs(10);

/// Log of failures inside the service.
#[derive(Debug, Default)]
pub(crate) struct Trouble(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failing: bool,
    said: Option<Instant>,
}

impl Trouble {
    /// Logs the first failure at `error`, further ones at `debug`, and at `info` that calls succeed again.
    pub(crate) fn note(&self, audience: Audience, answered: &Result<Answer, Problem>) {
        match answered {
            Err(problem) => {
                let Some(cause) = problem.cause() else { return };
                if self.begins() {
                    tracing::error!(
                        error = cause,
                        "requests cannot be served; further ones are logged at debug"
                    );
                } else {
                    tracing::debug!(error = cause, "a request cannot be served");
                }
            }
            Ok(_) if audience == Audience::Trigger => {
                if self.ends() {
                    tracing::info!("calls are served again");
                }
            }
            Ok(_) => {}
        }
    }

    fn begins(&self) -> bool {
        let mut state = self.0.lock();
        let lately = state.said.is_some_and(|said| said.elapsed() < PAUSE);
        if state.failing || lately {
            return false;
        }
        *state = State { failing: true, said: Some(Instant::now()) };
        true
    }

    fn ends(&self) -> bool {
        let mut state = self.0.lock();
        std::mem::take(&mut state.failing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_said_when_it_begins_and_not_again_before_it_has_ended() {
        let trouble = Trouble::default();
        assert!(trouble.begins());
        tokio::time::advance(10 * PAUSE).await;
        assert!(!trouble.begins());
        assert!(trouble.ends());
        assert!(!trouble.ends());
        assert!(trouble.begins());
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_and_goes_is_said_once_in_a_while() {
        let trouble = Trouble::default();
        let mut lines = 0;
        for _ in 0..1_000 {
            lines += usize::from(trouble.begins());
            trouble.ends();
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        assert_eq!(lines, 10);
    }
}
