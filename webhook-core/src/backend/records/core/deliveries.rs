//! Operations on deliveries of a store around records.

use std::time::SystemTime;

use tokio::time::Instant;

use super::RecordCore;
use crate::backend::records::contract::{RecordChange, Records};
use crate::clock::later;
use crate::error::Resource;
use crate::id::{DeliveryId, RunId};
use crate::notifier::Delivery;
use crate::store::{DeliveryClaimRequest, DeliveryQuery, DeliverySettlement, Page, StoreError};

impl<R: Records> RecordCore<R> {
    pub(in crate::backend::records) fn claim_deliveries(
        &mut self,
        request: &DeliveryClaimRequest,
        instant: Instant,
    ) -> Result<Vec<Delivery>, StoreError> {
        let claimed = self.pending.claim(request, instant);
        let read = |records: &mut R| {
            let each = claimed.iter().map(|claimed| records.get_delivery(claimed.id));
            each.filter_map(Result::transpose).collect()
        };
        let deliveries = self.read(read);
        if deliveries.is_err() {
            for claimed in claimed {
                self.pending.give_back(claimed, None);
            }
        }
        deliveries
    }

    pub(in crate::backend::records) fn settle_deliveries(
        &mut self,
        settlements: &[DeliverySettlement],
        instant: Instant,
    ) -> Result<(), StoreError> {
        // Deliveries as they are after the settlements before, each with its due time.
        let mut settled: Vec<(Delivery, Instant)> = Vec::new();
        for settlement in settlements {
            let before = settled.iter().rev().map(|(delivery, _)| delivery).find(|it| it.id == settlement.id);
            let stored = match before {
                Some(delivery) => Some(delivery.clone()),
                None => self.read(|records| records.get_delivery(settlement.id))?,
            };
            if let Some(after) = stored.and_then(|stored| settlement.applied_to(&stored)) {
                settled.push((after, later(instant, settlement.pause())));
            }
        }
        self.put_deliveries(settled)
    }

    fn put_deliveries(&mut self, deliveries: Vec<(Delivery, Instant)>) -> Result<(), StoreError> {
        let put = |(delivery, _): &(Delivery, Instant)| RecordChange::PutDelivery(delivery.clone());
        // Written first: if that fails, the claims go on.
        self.write(&deliveries.iter().map(put).collect::<Vec<_>>())?;
        for (delivery, due) in deliveries {
            self.pending.follow(&delivery, due);
        }
        Ok(())
    }

    pub(in crate::backend::records) fn list_deliveries(
        &mut self,
        runs: &[RunId],
    ) -> Result<Vec<Delivery>, StoreError> {
        let mut deliveries = Vec::new();
        for run in runs {
            deliveries.extend(self.read(|records| records.deliveries_of(*run))?);
        }
        Ok(deliveries)
    }

    pub(in crate::backend::records) fn find_deliveries(
        &mut self,
        query: DeliveryQuery,
    ) -> Result<Page<Delivery, DeliveryId>, StoreError> {
        let limit = query.limit;
        let query = query.limit(limit.saturating_add(1));
        let deliveries = self.read(|records| records.find_deliveries(&query))?;
        Ok(Page::cut(deliveries, limit, |delivery: &Delivery| delivery.id))
    }

    pub(in crate::backend::records) fn resend_delivery(
        &mut self,
        id: DeliveryId,
        now: SystemTime,
        instant: Instant,
    ) -> Result<Delivery, StoreError> {
        let stored = self.read(|records| records.get_delivery(id))?;
        let resent = stored.ok_or(StoreError::NotFound(Resource::Delivery))?.resent(now);
        self.put_deliveries(vec![(resent.clone(), instant)])?;
        Ok(resent)
    }
}
