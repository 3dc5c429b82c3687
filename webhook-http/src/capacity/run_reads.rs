//! Bound on the runs that are read for callers at once.

use std::time::Duration;

use webhook_core::id::WebhookId;

use crate::capacity::room::Room;
use crate::capacity::shares::{Exhausted, Share, Shares};
use crate::contract::problem::Problem;
use crate::contract::slug::Slug;

/// Upper bound on concurrent reads of one webhook's runs, from the store to the written answer.
const OF_WEBHOOK: usize = 4;
/// Upper bound for the callers of all webhooks. A store takes more reads, so those of the management paths go on.
const IN_ALL: usize = 2 * OF_WEBHOOK;
/// Time for which a read waits for its turn before it is refused.
const PATIENCE: Duration = Duration::from_secs(2);

/// Reads of runs by callers, with a share for each webhook.
///
/// A run has up to some megabytes. Many reads of it with one token must not delay those of others.
#[derive(Debug)]
pub(crate) struct RunReads(Shares);

impl Default for RunReads {
    fn default() -> Self {
        Self(Shares::new(IN_ALL, OF_WEBHOOK))
    }
}

impl RunReads {
    /// Waits for the turn of a read, and gives up as soon as others need the connection.
    ///
    /// # Errors
    /// [`Slug::RateLimited`] when too many reads of the same webhook are before it.
    /// [`Slug::StoreUnavailable`] when too many reads of others are, or connections run short.
    pub(crate) async fn turn(&self, webhook: WebhookId, server: Option<&Room>) -> Result<Share, Problem> {
        let turn = self.0.take(webhook, 1, PATIENCE);
        let Some(server) = server else { return turn.await.map_err(refused) };
        tokio::select! {
            biased;
            turn = turn => turn.map_err(refused),
            () = server.crowded() => Err(refused(Exhausted::InAll)),
        }
    }
}

fn refused(exhausted: Exhausted) -> Problem {
    let (slug, detail) = match exhausted {
        Exhausted::OfWebhook => {
            (Slug::RateLimited, "too many runs of this webhook are being read; try again later")
        }
        Exhausted::InAll => (Slug::StoreUnavailable, "too many runs are being read; try again later"),
    };
    Problem::new(slug).with_detail(detail).retry_after(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use tokio::time::Instant;

    use super::*;
    use crate::capacity::room::RoomSource;

    fn webhook() -> WebhookId {
        WebhookId::generate(SystemTime::UNIX_EPOCH)
    }

    #[tokio::test(start_paused = true)]
    async fn reads_of_one_webhook_leave_room_for_those_of_another_and_are_told_so_when_they_wait_too_long() {
        let (reads, webhooks) = (RunReads::default(), [webhook(), webhook(), webhook()]);
        let mut held = Vec::new();
        for webhook in &webhooks[..2] {
            for _ in 0..OF_WEBHOOK {
                held.push(reads.turn(*webhook, None).await.unwrap());
            }
            let begun = Instant::now();
            let problem = reads.turn(*webhook, None).await.unwrap_err();
            assert_eq!((problem.slug(), begun.elapsed()), (Slug::RateLimited, PATIENCE));
            assert_eq!(problem.into_response().headers()["retry-after"], "1");
        }
        assert_eq!(reads.turn(webhooks[2], None).await.unwrap_err().slug(), Slug::StoreUnavailable);
        held.pop();
        assert!(reads.turn(webhooks[2], None).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_that_has_to_wait_leaves_its_connection_to_others_when_those_run_short() {
        let (reads, webhook, source) = (RunReads::default(), webhook(), RoomSource::new(8));
        let room = source.room();
        source.set_crowded(true);
        let mut held = Vec::new();
        for _ in 0..OF_WEBHOOK {
            held.push(reads.turn(webhook, Some(&room)).await.unwrap());
        }
        let begun = Instant::now();
        assert_eq!(reads.turn(webhook, Some(&room)).await.unwrap_err().slug(), Slug::StoreUnavailable);
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }
}
