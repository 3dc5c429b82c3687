//! The outbox.

use std::collections::HashMap;
use std::time::SystemTime;

use uuid::Uuid;
use webhook_core::error::Resource;
use webhook_core::id::DeliveryId;
use webhook_core::notifier::{Delivery, DeliveryState};
use webhook_core::store::{DeliveryClaimRequest, DeliverySettlement, StoreError};

use crate::database::Database;
use crate::failure::Failure;
use crate::reading::{delivery_state, read_delivery};
use crate::record::*;
use crate::waiting::{Waits, selected};

/// Upper bound on the repetitions of a transaction that lost against another.
const REPEATS: usize = 5;

pub(crate) async fn claim(
    database: &Database,
    waits: &Waits,
    request: &DeliveryClaimRequest,
) -> Result<Vec<Delivery>, Failure> {
    let seen = waits.deliveries();
    let (only, but) = selected(&request.channels);
    let limit = i32::try_from(request.limit).unwrap_or(i32::MAX).min(10_000);
    let rows = database
        .query(
            "SELECT * FROM @S@.claim_deliveries_1($1, $2, $3, $4)",
            &[int(&limit), long(&duration_ms(request.lease)), maybe_text(&only), texts(&but)],
        )
        .await?;
    let claimed = rows.iter().map(|row| read_delivery(at(row, 0)?)).collect::<Result<Vec<_>, _>>()?;
    let is_full = claimed.len() >= request.limit;
    waits.claimed_deliveries(&request.channels, (!is_full).then_some(seen));
    Ok(claimed)
}

/// Changes deliveries by what `change` makes of those that are stored, in one transaction. It gives the changed
/// delivery and the pause until it is due.
async fn change(
    database: &Database,
    ids: &[Uuid],
    mut change: impl FnMut(&Delivery) -> Option<(Delivery, i64)>,
) -> Result<Vec<Delivery>, Failure> {
    let mut tries = 0;
    loop {
        match change_once(database, ids, &mut change).await {
            Err(failure) if failure.is_repeatable() && tries < REPEATS => tries += 1,
            other => return other,
        }
    }
}

async fn change_once(
    database: &Database,
    ids: &[Uuid],
    change: &mut impl FnMut(&Delivery) -> Option<(Delivery, i64)>,
) -> Result<Vec<Delivery>, Failure> {
    let mut client = database.client().await?;
    let transaction = client.transaction().await?;
    let sql = database.sql("SELECT * FROM @S@.lock_deliveries_1($1)");
    let rows = transaction.query_typed(&sql, &[uuids(&ids.to_vec())]).await?;
    let (mut changed, mut pauses, mut pending) = (Vec::new(), Vec::new(), 0_i64);
    for row in &rows {
        let stored = read_delivery(at(row, 0)?)?;
        if let Some((delivery, pause)) = change(&stored) {
            let is_pending = |delivery: &Delivery| i64::from(delivery.state == DeliveryState::Pending);
            pending += is_pending(&delivery) - is_pending(&stored);
            changed.push(delivery);
            pauses.push(pause);
        }
    }
    if changed.is_empty() {
        return Ok(changed);
    }
    let sql = database.sql("SELECT @S@.change_deliveries_1($1, $2, $3, $4, $5)");
    transaction
        .query_typed(
            &sql,
            &[
                uuids(&changed.iter().map(|it| uuid_of_delivery(it.id)).collect()),
                many_bytes(&changed.iter().map(json).collect()),
                smalls(&changed.iter().map(|it| delivery_state(it.state)).collect()),
                longs(&pauses),
                long(&pending),
            ],
        )
        .await?;
    transaction.commit().await?;
    Ok(changed)
}

pub(crate) async fn settle(database: &Database, settlements: &[DeliverySettlement]) -> Result<(), Failure> {
    let mut of: HashMap<DeliveryId, Vec<&DeliverySettlement>> = HashMap::new();
    for settlement in settlements {
        of.entry(settlement.id).or_default().push(settlement);
    }
    let ids: Vec<Uuid> = of.keys().map(|id| uuid_of_delivery(*id)).collect();
    let applied = |stored: &Delivery| {
        let mut applied = None;
        for settlement in of.get(&stored.id)? {
            let present = applied.as_ref().map_or(stored, |(delivery, _): &(Delivery, i64)| delivery);
            if let Some(delivery) = settlement.applied_to(present) {
                applied = Some((delivery, duration_ms(settlement.pause())));
            }
        }
        applied
    };
    change(database, &ids, applied).await.map(drop)
}

pub(crate) async fn resend(
    database: &Database,
    id: DeliveryId,
    now: SystemTime,
) -> Result<Delivery, StoreError> {
    let resent = change(database, &[uuid_of_delivery(id)], |stored| Some((stored.resent(now), 0))).await?;
    resent.into_iter().next().ok_or(StoreError::NotFound(Resource::Delivery))
}
