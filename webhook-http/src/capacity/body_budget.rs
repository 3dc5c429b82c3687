//! Budget for the bytes of bodies in work.

use std::time::Duration;

use webhook_core::id::WebhookId;

use crate::capacity::room::Room;
use crate::capacity::shares::{Share, Shares};
use crate::contract::problem::Problem;
use crate::contract::slug::Slug;

/// Upper bound on the bytes of bodies in process, from their first byte to the answer.
const IN_ALL: usize = 64 << 20;
/// Upper bound for one webhook: its callers must not delay all others.
const OF_WEBHOOK: usize = IN_ALL / 2;
/// Size up to which bodies need no share. The number of connections bounds the memory of such bodies.
pub(crate) const FREE: usize = 16 << 10;
/// Time for which a body waits for its share before the call is refused.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of one permit.
const UNIT: usize = 1 << 10;

/// Budget that the bodies of all calls share.
#[derive(Debug)]
pub(crate) struct BodyBudget(Shares);

/// Turn of a call whose body needs a share.
pub(crate) struct Turn<'a> {
    pub(crate) budget: &'a BodyBudget,
    pub(crate) webhook: WebhookId,
    /// Room of the connection, if the server tells of it.
    pub(crate) server: Option<&'a Room>,
}

impl Turn<'_> {
    /// Waits for the share of a body of at most `bytes`, and gives up as soon as others need the connection.
    ///
    /// # Errors
    /// [`Slug::QueueFull`] when there is none in time.
    pub(crate) async fn share(&self, bytes: usize) -> Result<Share, Problem> {
        let share = self.budget.share(self.webhook, bytes);
        let Some(server) = self.server else { return share.await };
        tokio::select! {
            biased;
            share = share => share,
            () = server.crowded() => Err(full()),
        }
    }
}

impl Default for BodyBudget {
    fn default() -> Self {
        Self(Shares::new(IN_ALL / UNIT, OF_WEBHOOK / UNIT))
    }
}

impl BodyBudget {
    /// Waits for the share of a body of at most `bytes`.
    ///
    /// A body takes its whole share at once. It never waits for more while it is read, so no two wait for each other.
    ///
    /// # Errors
    /// [`Slug::QueueFull`] when there is no share for two seconds.
    pub(crate) async fn share(&self, webhook: WebhookId, bytes: usize) -> Result<Share, Problem> {
        let units = u32::try_from(bytes.min(OF_WEBHOOK).div_ceil(UNIT)).unwrap_or(u32::MAX);
        self.0.take(webhook, units, PATIENCE).await.map_err(|_| full())
    }
}

fn full() -> Problem {
    Problem::new(Slug::QueueFull).with_detail("too many large bodies are being worked on; try again later")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use tokio::time::Instant;

    use super::*;

    const MEBIBYTE: usize = 1 << 20;

    fn webhook() -> WebhookId {
        WebhookId::generate(SystemTime::UNIX_EPOCH)
    }

    #[tokio::test(start_paused = true)]
    async fn a_webhooks_bodies_take_half_of_the_room_and_those_of_all_take_no_more_than_there_is() {
        let (budget, webhooks) = (BodyBudget::default(), [webhook(), webhook(), webhook()]);
        let mut held = Vec::new();
        for webhook in &webhooks[..2] {
            for _ in 0..32 {
                held.push(budget.share(*webhook, MEBIBYTE).await.unwrap());
            }
            let begun = Instant::now();
            assert_eq!(budget.share(*webhook, MEBIBYTE).await.unwrap_err().slug(), Slug::QueueFull);
            assert_eq!(begun.elapsed(), PATIENCE);
        }
        assert!(budget.share(webhooks[2], UNIT).await.is_err());
        held.truncate(63);
        assert!(budget.share(webhooks[2], MEBIBYTE).await.is_ok());
        assert_eq!(budget.0.webhooks(), 3);
        drop(held);
        drop(budget.share(webhook(), 1).await.unwrap());
        assert_eq!(budget.0.webhooks(), 1, "what has no bodies in work is forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_gets_its_turn_when_another_is_done() {
        let (budget, webhook) = (Arc::new(BodyBudget::default()), webhook());
        let held = budget.share(webhook, OF_WEBHOOK).await.unwrap();
        let waiting = tokio::spawn({
            let budget = budget.clone();
            async move { budget.share(webhook, 2 * IN_ALL).await.is_ok() }
        });
        tokio::time::sleep(PATIENCE / 2).await;
        drop(held);
        assert!(waiting.await.unwrap(), "also one that may be larger than all of the room");
    }
}
