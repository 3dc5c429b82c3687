//! Which deliveries may begin: whoever answers slowly holds up nobody else.
//!
//! A try that takes long gives its slot back and goes on beside the others. Its recipient is slow from then on:
//! one try at a time, until one is quick again. What may not begin is left to its lease and comes back after it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::notifier::Delivery;
use crate::service::lock;
use crate::webhook::Channel;

/// How many slow tries each channel may have under way, for each slot that there is.
const SLOW_TRIES_PER_SLOT: usize = 4;
/// How many slow recipients are remembered while nothing is under way to them.
const REMEMBERED: usize = 4_096;

/// A channel and a recipient.
type Lane = (Channel, String);

/// The tries that are under way.
pub(super) struct Lanes {
    slow_limit: usize,
    slow_tries: HashMap<Channel, usize>,
    recipients: HashMap<Lane, Recipient>,
}

#[derive(Default)]
struct Recipient {
    under_way: usize,
    is_slow: bool,
}

impl Lanes {
    pub(super) fn new(slots: usize) -> Arc<Mutex<Self>> {
        let slow_limit = slots.saturating_mul(SLOW_TRIES_PER_SLOT);
        Arc::new(Mutex::new(Self { slow_limit, slow_tries: HashMap::new(), recipients: HashMap::new() }))
    }

    fn begin(&mut self, lane: &Lane) -> bool {
        if self.slow_tries.get(&lane.0).is_some_and(|tries| *tries >= self.slow_limit) {
            return false;
        }
        if self.recipients.len() > REMEMBERED {
            self.recipients.retain(|_, recipient| recipient.under_way > 0);
        }
        let recipient = self.recipients.entry(lane.clone()).or_default();
        let may_begin = !recipient.is_slow || recipient.under_way == 0;
        recipient.under_way += usize::from(may_begin);
        may_begin
    }

    fn is_slow(&mut self, lane: &Lane) {
        *self.slow_tries.entry(lane.0).or_default() += 1;
        if let Some(recipient) = self.recipients.get_mut(lane) {
            recipient.is_slow = true;
        }
    }

    fn end(&mut self, lane: &Lane, was_slow: bool) {
        if let Some(tries) = self.slow_tries.get_mut(&lane.0).filter(|_| was_slow) {
            *tries -= 1;
        }
        let Some(recipient) = self.recipients.get_mut(lane) else { return };
        recipient.under_way -= 1;
        recipient.is_slow &= was_slow;
        if recipient.under_way == 0 && !recipient.is_slow {
            self.recipients.remove(lane);
        }
    }
}

/// A try under way, until this is dropped.
pub(super) struct Try {
    lanes: Arc<Mutex<Lanes>>,
    lane: Lane,
    was_slow: bool,
}

impl Try {
    /// Begins a try, unless its recipient or its channel is too slow for another.
    pub(super) fn begin(lanes: &Arc<Mutex<Lanes>>, delivery: &Delivery) -> Option<Self> {
        let lane = (delivery.channel, delivery.recipient.clone());
        let began = lock(lanes).begin(&lane);
        began.then(|| Self { lanes: lanes.clone(), lane, was_slow: false })
    }

    /// It takes long.
    pub(super) fn is_slow(&mut self) {
        self.was_slow = true;
        lock(&self.lanes).is_slow(&self.lane);
    }
}

impl Drop for Try {
    fn drop(&mut self) {
        lock(&self.lanes).end(&self.lane, self.was_slow);
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::id::{DeliveryId, RunId};
    use crate::webhook::EventKind;

    fn to(channel: Channel, recipient: &str) -> Delivery {
        let now = SystemTime::now();
        let (id, run) = (DeliveryId::generate(now), RunId::generate(now));
        Delivery::new(id, run, channel, recipient, EventKind::Success, now)
    }

    #[test]
    fn a_slow_recipient_gets_one_try_at_a_time_until_one_is_quick() {
        let lanes = Lanes::new(4);
        let (dead, other) = (to(Channel::Email, "dead@example.com"), to(Channel::Email, "a@example.com"));
        let mut tries: Vec<Try> = (0..3).filter_map(|_| Try::begin(&lanes, &dead)).collect();
        assert_eq!(tries.len(), 3, "a recipient is not slow from the start");
        tries.iter_mut().for_each(Try::is_slow);
        assert!(Try::begin(&lanes, &dead).is_none());
        assert!(Try::begin(&lanes, &other).is_some());
        tries.clear();
        let probe = Try::begin(&lanes, &dead).unwrap();
        assert!(Try::begin(&lanes, &dead).is_none(), "one at a time");
        drop(probe);
        let quick: Vec<_> = (0..3).map(|_| Try::begin(&lanes, &dead)).collect();
        assert!(quick.iter().all(Option::is_some), "it was quick again");
        drop(quick);
        assert!(lock(&lanes).recipients.is_empty());
    }

    #[test]
    fn a_channel_whose_tries_are_all_slow_waits_and_the_other_goes_on() {
        let lanes = Lanes::new(1);
        let mut tries = Vec::new();
        for number in 0..SLOW_TRIES_PER_SLOT {
            let mut begun = Try::begin(&lanes, &to(Channel::Email, &number.to_string())).unwrap();
            begun.is_slow();
            tries.push(begun);
        }
        assert!(Try::begin(&lanes, &to(Channel::Email, "one more")).is_none());
        assert!(Try::begin(&lanes, &to(Channel::Slack, "#ops")).is_some());
        tries.pop();
        assert!(Try::begin(&lanes, &to(Channel::Email, "one more")).is_some());
    }
}
