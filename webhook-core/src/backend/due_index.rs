//! The pending deliveries by the time at which they are due.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use crate::clock::later;
use crate::id::{DeliveryId, RunId};
use crate::notifier::{Delivery, DeliveryState};
use crate::store::{Channels, DeliveryClaimRequest};
use crate::webhook::Channel;
use tokio::time::Instant;

/// The pending deliveries by the time at which they are due. Their records are elsewhere.
///
/// A claim moves a delivery to the end of its lease, so a claimed delivery is one that is due later.
#[derive(Debug, Default)]
pub struct DueIndex {
    /// Decides; `due` and `by_run` follow from it.
    entries: HashMap<DeliveryId, DueEntry>,
    /// Deliveries of each channel by the time at which they are due. A store that restores them may not know their channels,
    /// which the first claim finds out.
    due: BTreeMap<Option<Channel>, BTreeSet<(Instant, DeliveryId)>>,
    /// Number of pending deliveries of each run that has any.
    by_run: HashMap<RunId, usize>,
    /// True if the store may hold deliveries, pending or not.
    has_any: bool,
    /// Length of the lease that was last asked for.
    lease: Duration,
}

#[derive(Debug, Clone, Copy)]
struct DueEntry {
    run: RunId,
    channel: Option<Channel>,
    due: Instant,
}

/// A claimed delivery.
#[derive(Debug, Clone, Copy)]
pub struct ClaimedDelivery {
    /// Run that the delivery tells of.
    pub run: RunId,
    /// Id of the delivery.
    pub id: DeliveryId,
    channel: Option<Channel>,
    /// When it was due before.
    due: Instant,
    claimed_until: Instant,
}

impl DueIndex {
    /// Notes that the store holds a delivery, pending or not.
    pub fn note_delivery(&mut self) {
        self.has_any = true;
    }

    /// Returns true if the store may hold deliveries, pending or not.
    #[must_use]
    pub fn has_any(&self) -> bool {
        self.has_any
    }

    /// Begins again with what was restored, and the length of leases that was last asked for.
    pub fn replace(&mut self, restored: Self) {
        *self = Self { lease: self.lease, ..restored };
    }

    /// Adds a pending delivery, or changes when it is due.
    pub fn put(&mut self, run: RunId, id: DeliveryId, channel: Option<Channel>, due: Instant) {
        match self.entries.insert(id, DueEntry { run, channel, due }) {
            Some(old) => self.forget_due(id, old),
            None => *self.by_run.entry(run).or_default() += 1,
        }
        self.due.entry(channel).or_default().insert((due, id));
    }

    /// Follows a delivery's record: one that is pending is due at this time, and any other is not in the index.
    pub fn follow(&mut self, delivery: &Delivery, due: Instant) {
        match delivery.state {
            DeliveryState::Pending => self.put(delivery.run, delivery.id, Some(delivery.channel), due),
            _ => self.remove(delivery.id),
        }
    }

    /// Removes a delivery that is no longer pending.
    pub fn remove(&mut self, id: DeliveryId) {
        let Some(entry) = self.entries.remove(&id) else { return };
        self.forget_due(id, entry);
        if let Some(count) = self.by_run.get_mut(&entry.run) {
            *count -= 1;
            if *count == 0 {
                self.by_run.remove(&entry.run);
            }
        }
    }

    /// Claims the earliest due deliveries of the requested channels, or of unknown channels, for the time of a lease.
    pub fn claim(&mut self, request: &DeliveryClaimRequest, instant: Instant) -> Vec<ClaimedDelivery> {
        self.lease = request.lease;
        let of_channel = |due: &BTreeSet<(Instant, DeliveryId)>| {
            due.iter().take_while(|(due, _)| *due <= instant).take(request.limit).copied().collect::<Vec<_>>()
        };
        let mut due: Vec<_> = self.due_through(&request.channels).flat_map(of_channel).collect();
        due.sort_unstable();
        due.truncate(request.limit);
        let claimed_until = later(instant, request.lease);
        let mut claimed = Vec::with_capacity(due.len());
        for (due, id) in due {
            let Some(DueEntry { run, channel, .. }) = self.entries.get(&id).copied() else { continue };
            self.put(run, id, channel, claimed_until);
            claimed.push(ClaimedDelivery { run, id, channel, due, claimed_until });
        }
        claimed
    }

    /// Notes the channel of a claimed delivery.
    pub fn note_channel(&mut self, claimed: ClaimedDelivery, channel: Channel) {
        self.change_claimed(claimed, Some(channel), claimed.claimed_until);
    }

    /// Gives up a claim, and notes the delivery's channel if that is known.
    pub fn give_back(&mut self, claimed: ClaimedDelivery, channel: Option<Channel>) {
        self.change_claimed(claimed, channel.or(claimed.channel), claimed.due);
    }

    fn change_claimed(&mut self, claimed: ClaimedDelivery, channel: Option<Channel>, due: Instant) {
        // It may have been settled or resent since.
        if self.entries.get(&claimed.id).is_some_and(|entry| entry.due == claimed.claimed_until) {
            self.put(claimed.run, claimed.id, channel, due);
        }
    }

    /// Returns the time at which each delivery is due or its claim ends, and the length of leases that was last asked for.
    #[must_use]
    pub fn deadlines(&self) -> (HashMap<DeliveryId, Instant>, Duration) {
        (self.entries.iter().map(|(id, entry)| (*id, entry.due)).collect(), self.lease)
    }

    /// Returns the run of a pending delivery.
    #[must_use]
    pub fn run_of(&self, id: DeliveryId) -> Option<RunId> {
        self.entries.get(&id).map(|entry| entry.run)
    }

    /// Returns true if a run has pending deliveries.
    #[must_use]
    pub fn has_pending(&self, run: RunId) -> bool {
        self.by_run.contains_key(&run)
    }

    /// Returns true if no delivery is pending.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Number of pending deliveries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns the earliest time at which a delivery of these channels, or of an unknown channel, is due.
    #[must_use]
    pub fn next_deadline(&self, channels: &Channels) -> Option<Instant> {
        self.due_through(channels).filter_map(|due| due.first()).map(|first| first.0).min()
    }

    fn due_through(&self, channels: &Channels) -> impl Iterator<Item = &BTreeSet<(Instant, DeliveryId)>> {
        let may_be_asked_for = |channel: &Option<Channel>| channel.is_none_or(|it| channels.include(it));
        self.due.iter().filter(move |(channel, _)| may_be_asked_for(channel)).map(|(_, due)| due)
    }

    fn forget_due(&mut self, id: DeliveryId, entry: DueEntry) {
        if let Some(due) = self.due.get_mut(&entry.channel) {
            due.remove(&(entry.due, id));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn each_due_delivery_goes_to_one_claimer_until_its_lease_ends() {
        let (mut index, instant, lease) = (DueIndex::default(), Instant::now(), Duration::from_secs(30));
        let run = RunId::generate(SystemTime::now());
        let ids: Vec<DeliveryId> = (0..3).map(|_| DeliveryId::generate(SystemTime::now())).collect();
        for id in &ids {
            index.put(run, *id, Some(Channel::EMAIL), instant);
        }
        let request = |limit| DeliveryClaimRequest::new(limit, lease);
        assert_eq!(index.claim(&request(2), instant).len(), 2);
        let rest: Vec<_> = index.claim(&request(9), instant).iter().map(|claimed| claimed.id).collect();
        assert_eq!(rest, [ids[2]]);
        assert_eq!(index.next_deadline(&Channels::default()), Some(instant + lease));
        assert_eq!(index.claim(&request(9), instant + lease).len(), 3);
        for id in &ids {
            index.remove(*id);
        }
        assert!(!index.has_pending(run) && index.is_empty());
        assert!(index.next_deadline(&Channels::default()).is_none());
    }

    #[test]
    fn a_delivery_that_is_given_back_is_due_as_before_unless_it_was_sent_again() {
        let (mut index, instant) = (DueIndex::default(), Instant::now());
        let run = RunId::generate(SystemTime::now());
        let request = DeliveryClaimRequest::new(1, Duration::from_secs(30));
        let (email, slack) = (Channels::Only(Channel::EMAIL), Channels::Only(Channel::SLACK));
        let id = DeliveryId::generate(SystemTime::now());
        index.put(run, id, None, instant);
        let claimed = index.claim(&request.clone().through(slack.clone()), instant)[0];
        index.give_back(claimed, Some(Channel::EMAIL));
        assert_eq!((index.next_deadline(&email), index.next_deadline(&slack)), (Some(instant), None));
        let claimed = index.claim(&request, instant)[0];
        let later = instant + Duration::from_secs(5);
        index.put(run, id, Some(Channel::EMAIL), later);
        index.give_back(claimed, None);
        assert_eq!(index.next_deadline(&email), Some(later));
    }
}
