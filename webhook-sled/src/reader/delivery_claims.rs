//! Claiming deliveries: the index knows which may be due, and the record of each names its channel.

use sled::Tree;
use tokio::time::Instant;
use webhook_core::backend::ClaimedDelivery;
use webhook_core::notifier::{Delivery, DeliveryState};
use webhook_core::store::{DeliveryClaimRequest, StoreError};

use crate::engine::parts::Parts;
use crate::format::keys;
use crate::reader::read;

/// Upper bound on the rounds of one call. Each further round replaces deliveries of other channels.
const ROUNDS: usize = 128;

/// Reads the records of claimed deliveries. Those that turn out to be of another channel are given back, and others are
/// claimed in their place. After [`ROUNDS`] of that, fewer are returned, and the next claim goes on.
pub(crate) fn claim_deliveries(
    parts: &Parts,
    tree: &Tree,
    mut request: DeliveryClaimRequest,
    first: Vec<ClaimedDelivery>,
) -> Result<Vec<Delivery>, StoreError> {
    let (limit, instant) = (request.limit, Instant::now());
    let (mut claimed, mut deliveries) = (first.clone(), Vec::new());
    let mut all = first;
    for round in 1.. {
        for claim in claimed {
            match read_claimed(parts, tree, &request, claim) {
                Ok(delivery) => deliveries.extend(delivery),
                Err(error) => {
                    let mut deliveries_index = parts.deliveries();
                    for claim in all {
                        deliveries_index.give_back(claim, None);
                    }
                    return Err(error);
                }
            }
        }
        if round == ROUNDS {
            break;
        }
        request.limit = limit - deliveries.len();
        claimed = parts.deliveries().claim(&request, instant);
        if claimed.is_empty() {
            break;
        }
        all.extend(&claimed);
    }
    Ok(deliveries)
}

/// Reads a claimed delivery, and gives it back if it is not asked for.
fn read_claimed(
    parts: &Parts,
    tree: &Tree,
    request: &DeliveryClaimRequest,
    claim: ClaimedDelivery,
) -> Result<Option<Delivery>, StoreError> {
    let key = keys::delivery(claim.run, claim.id);
    let Some(delivery) = parts.damage().set_aside(&key, read::delivery(tree, claim.run, claim.id))? else {
        // It cannot go out, and must not keep others from it.
        parts.deliveries().remove(claim.id);
        return Ok(None);
    };
    // One that was settled since is no longer in the index.
    let Some(delivery) = delivery.filter(|delivery| delivery.state == DeliveryState::Pending) else {
        return Ok(None);
    };
    if !request.channels.include(delivery.channel) {
        parts.deliveries().give_back(claim, Some(delivery.channel));
        return Ok(None);
    }
    parts.deliveries().note_channel(claim, delivery.channel);
    Ok(Some(delivery))
}
