//! The pending deliveries by when they are due. Their records are on disk; this is the index.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;
use webhook_core::clock::later;
use webhook_core::id::{DeliveryId, RunId};
use webhook_core::store::{Channels, DeliveryClaimRequest};
use webhook_core::webhook::Channel;

#[derive(Debug, Default)]
pub(crate) struct DueIndex {
    entries: HashMap<DeliveryId, Entry>,
    /// Those of each channel by when they are due, or until when they are claimed. The records that are read when the
    /// store is opened do not name the channel; a claim finds it out.
    due: BTreeMap<Option<Channel>, BTreeSet<(Instant, DeliveryId)>>,
    by_run: HashMap<RunId, usize>,
    /// Whether the store may hold deliveries, pending or not.
    has_any: bool,
    /// Length of the lease that was last asked for.
    lease: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    run: RunId,
    channel: Option<Channel>,
    due: Instant,
}

/// A delivery that was claimed, as it was before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClaimedDelivery {
    pub(crate) run: RunId,
    pub(crate) id: DeliveryId,
    channel: Option<Channel>,
    due: Instant,
    claimed_until: Instant,
}

impl DueIndex {
    /// Notes that the store holds a delivery, pending or not.
    pub(crate) fn note_delivery(&mut self) {
        self.has_any = true;
    }

    /// Returns whether the store may hold deliveries; if not, nothing need be read to know a run's.
    pub(crate) fn has_any(&self) -> bool {
        self.has_any
    }

    /// Takes what was read when the database was opened anew. Those who claimed keep their leases.
    pub(crate) fn replace(&mut self, restored: Self) {
        *self = Self { lease: self.lease, ..restored };
    }

    /// Takes a pending delivery, or changes when it is due.
    pub(crate) fn put(&mut self, run: RunId, id: DeliveryId, channel: Option<Channel>, due: Instant) {
        match self.entries.insert(id, Entry { run, channel, due }) {
            Some(old) => self.forget_due(id, old),
            None => *self.by_run.entry(run).or_default() += 1,
        }
        self.due.entry(channel).or_default().insert((due, id));
    }

    /// Forgets a delivery that is no longer pending.
    pub(crate) fn remove(&mut self, id: DeliveryId) {
        let Some(entry) = self.entries.remove(&id) else { return };
        self.forget_due(id, entry);
        if let Some(count) = self.by_run.get_mut(&entry.run) {
            *count -= 1;
            if *count == 0 {
                self.by_run.remove(&entry.run);
            }
        }
    }

    /// Claims the earliest due deliveries that are asked for, or may be, for the time of a lease.
    pub(crate) fn claim(&mut self, request: &DeliveryClaimRequest, instant: Instant) -> Vec<ClaimedDelivery> {
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
            let Some(Entry { run, channel, .. }) = self.entries.get(&id).copied() else { continue };
            self.put(run, id, channel, claimed_until);
            claimed.push(ClaimedDelivery { run, id, channel, due, claimed_until });
        }
        claimed
    }

    /// Notes through which channel a claimed delivery goes.
    pub(crate) fn note_channel(&mut self, claimed: ClaimedDelivery, channel: Channel) {
        self.change_claimed(claimed, Some(channel), claimed.claimed_until);
    }

    /// Makes a claimed delivery due as it was before, and notes its channel if that is known.
    pub(crate) fn give_back(&mut self, claimed: ClaimedDelivery, channel: Option<Channel>) {
        self.change_claimed(claimed, channel.or(claimed.channel), claimed.due);
    }

    fn change_claimed(&mut self, claimed: ClaimedDelivery, channel: Option<Channel>, due: Instant) {
        // It may have been settled or sent again since.
        if self.entries.get(&claimed.id).is_some_and(|entry| entry.due == claimed.claimed_until) {
            self.put(claimed.run, claimed.id, channel, due);
        }
    }

    /// When every pending delivery is due, or until when it is claimed, and the length of leases.
    pub(crate) fn deadlines(&self) -> (HashMap<DeliveryId, Instant>, Duration) {
        (self.entries.iter().map(|(id, entry)| (*id, entry.due)).collect(), self.lease)
    }

    pub(crate) fn run_of(&self, id: DeliveryId) -> Option<RunId> {
        self.entries.get(&id).map(|entry| entry.run)
    }

    pub(crate) fn has_pending(&self, run: RunId) -> bool {
        self.by_run.contains_key(&run)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// When the next delivery is due that goes through these channels, or may do so.
    pub(crate) fn next_deadline(&self, channels: &Channels) -> Option<Instant> {
        self.due_through(channels).filter_map(|due| due.first()).map(|first| first.0).min()
    }

    fn due_through(&self, channels: &Channels) -> impl Iterator<Item = &BTreeSet<(Instant, DeliveryId)>> {
        let may_be_asked_for = |channel: &Option<Channel>| channel.is_none_or(|it| channels.include(it));
        self.due.iter().filter(move |(channel, _)| may_be_asked_for(channel)).map(|(_, due)| due)
    }

    fn forget_due(&mut self, id: DeliveryId, entry: Entry) {
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
    fn each_due_delivery_goes_to_one_claimer_until_its_lease_is_over() {
        let (mut outbox, instant, lease) = (DueIndex::default(), Instant::now(), Duration::from_secs(30));
        let run = RunId::generate(SystemTime::now());
        let ids: Vec<DeliveryId> = (0..3).map(|_| DeliveryId::generate(SystemTime::now())).collect();
        for id in &ids {
            outbox.put(run, *id, Some(Channel::Email), instant);
        }
        let request = |limit| DeliveryClaimRequest::new(limit, lease);
        assert_eq!(outbox.claim(&request(2), instant).len(), 2);
        let rest: Vec<_> = outbox.claim(&request(9), instant).iter().map(|claimed| claimed.id).collect();
        assert_eq!(rest, [ids[2]]);
        assert_eq!(outbox.next_deadline(&Channels::default()), Some(instant + lease));
        assert_eq!(outbox.claim(&request(9), instant + lease).len(), 3);
        for id in &ids {
            outbox.remove(*id);
        }
        assert!(!outbox.has_pending(run) && outbox.len() == 0);
        assert!(outbox.next_deadline(&Channels::default()).is_none());
    }

    #[test]
    fn a_delivery_that_is_given_back_is_due_as_before_unless_it_was_sent_again() {
        let (mut outbox, instant) = (DueIndex::default(), Instant::now());
        let run = RunId::generate(SystemTime::now());
        let request = DeliveryClaimRequest::new(1, Duration::from_secs(30));
        let (email, slack) = (Channels::Only(Channel::Email), Channels::Only(Channel::Slack));
        let id = DeliveryId::generate(SystemTime::now());
        outbox.put(run, id, None, instant);
        let claimed = outbox.claim(&request.clone().through(slack.clone()), instant)[0];
        outbox.give_back(claimed, Some(Channel::Email));
        assert_eq!((outbox.next_deadline(&email), outbox.next_deadline(&slack)), (Some(instant), None));
        let claimed = outbox.claim(&request, instant)[0];
        let later = instant + Duration::from_secs(5);
        outbox.put(run, id, Some(Channel::Email), later);
        outbox.give_back(claimed, None);
        assert_eq!(outbox.next_deadline(&email), Some(later));
    }
}
