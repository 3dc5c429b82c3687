//! Which deliveries may begin: whoever answers slowly holds up nobody else.
//!
//! A try that takes long gives its slot back and goes on beside the others. Its recipient is slow from then on:
//! one try at a time, until one is quick again. What may not begin is left to its lease and comes back after it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::outage::{Admitted, Outage, Reached};
use crate::notifier::Delivery;
use crate::service::lock;
use crate::service::meters::outages;
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
    outages: HashMap<Channel, Outage>,
    /// Signalled when an outage begins, goes on after a try, or ends.
    changed: Arc<Notify>,
}

#[derive(Default)]
struct Recipient {
    under_way: usize,
    is_slow: bool,
}

impl Lanes {
    pub(super) fn new(slots: usize) -> Arc<Mutex<Self>> {
        let slow_limit = slots.saturating_mul(SLOW_TRIES_PER_SLOT);
        Arc::new(Mutex::new(Self {
            slow_limit,
            slow_tries: HashMap::new(),
            recipients: HashMap::new(),
            outages: HashMap::new(),
            changed: Arc::default(),
        }))
    }

    /// How many tries may begin through a channel as far as outages go.
    pub(super) fn lets_through(lanes: &Mutex<Self>, channel: Channel) -> Admitted {
        lock(lanes).outages.get(&channel).map_or(Admitted::All, |outage| outage.admits(Instant::now()))
    }

    /// Waits until an outage changes or lets another try through. It counts from when it is called.
    pub(super) fn channel_changed(lanes: &Mutex<Self>) -> impl Future<Output = ()> + use<> {
        let lanes = lock(lanes);
        let changed = lanes.changed.clone().notified_owned();
        let next =
            lanes.outages.values().filter_map(Outage::next_try).filter(|at| *at > Instant::now()).min();
        async move {
            let due = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = changed => {}
                () = due => {}
            }
        }
    }

    /// For how long a channel has been out, if it is.
    pub(super) fn outage_lasts(lanes: &Mutex<Self>, channel: Channel) -> Option<Duration> {
        lock(lanes).outages.get(&channel).map(|outage| outage.lasts(Instant::now()))
    }

    fn came_back(&mut self, channel: Channel, reached: Option<Reached>, was_probe: bool) {
        let now = Instant::now();
        match reached {
            Some(Reached::OtherSide) => {
                if let Some(outage) = self.outages.remove(&channel) {
                    let lasted_s = outage.lasts(now).as_secs();
                    tracing::info!(channel = channel.as_str(), lasted_s, "a channel can be used again");
                    outages::ended(channel);
                }
            }
            Some(Reached::Nobody { why }) => {
                let outage = self.outages.entry(channel).or_insert_with(|| {
                    let channel = channel.as_str();
                    tracing::warn!(channel, error = why, "a channel cannot be used; its deliveries wait");
                    Outage::new(now)
                });
                outage.goes_on(was_probe, now);
                outages::goes_on(channel);
            }
            // One whose notifier was never asked says nothing of the channel.
            None if was_probe => {
                if let Some(outage) = self.outages.get_mut(&channel) {
                    outage.goes_on(true, now);
                }
            }
            None => return,
        }
        self.changed.notify_one();
    }

    /// Begins a try, if one may begin; answers whether it finds out if an outage is over.
    fn begin(&mut self, lane: &Lane) -> Option<bool> {
        if self.slow_tries.get(&lane.0).is_some_and(|tries| *tries >= self.slow_limit) {
            return None;
        }
        if self.outages.get(&lane.0).is_some_and(|outage| outage.admits(Instant::now()) == Admitted::None) {
            return None;
        }
        if self.recipients.len() > REMEMBERED {
            self.recipients.retain(|_, recipient| recipient.under_way > 0);
        }
        let recipient = self.recipients.entry(lane.clone()).or_default();
        let may_begin = !recipient.is_slow || recipient.under_way == 0;
        recipient.under_way += usize::from(may_begin);
        may_begin.then(|| match self.outages.get_mut(&lane.0) {
            Some(outage) => {
                outage.probe();
                true
            }
            None => false,
        })
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
    was_probe: bool,
    reached: Option<Reached>,
}

impl Try {
    /// Begins a try, unless its recipient or its channel is too slow for another.
    pub(super) fn begin(lanes: &Arc<Mutex<Lanes>>, delivery: &Delivery) -> Option<Self> {
        let lane = (delivery.channel, delivery.recipient.clone());
        let was_probe = lock(lanes).begin(&lane)?;
        Some(Self { lanes: lanes.clone(), lane, was_slow: false, was_probe, reached: None })
    }

    /// It takes long.
    pub(super) fn is_slow(&mut self) {
        self.was_slow = true;
        lock(&self.lanes).is_slow(&self.lane);
    }

    /// It came back, from the other side or from nowhere.
    pub(super) fn came_back(&mut self, reached: Reached) {
        self.reached = Some(reached);
    }
}

impl Drop for Try {
    fn drop(&mut self) {
        let mut lanes = lock(&self.lanes);
        lanes.end(&self.lane, self.was_slow);
        lanes.came_back(self.lane.0, self.reached.take(), self.was_probe);
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

    #[tokio::test(start_paused = true)]
    async fn only_a_try_that_reached_the_other_side_ends_an_outage() {
        let lanes = Lanes::new(4);
        let mail = to(Channel::Email, "a@example.com");
        Try::begin(&lanes, &mail).unwrap().came_back(Reached::Nobody { why: "refused".to_owned() });
        let minute = Duration::from_secs(60);
        tokio::time::sleep(minute).await;
        // One whose notifier was never asked, such as when its run cannot be read.
        drop(Try::begin(&lanes, &mail).expect("it finds out whether the outage is over"));
        assert_eq!(Lanes::outage_lasts(&lanes, Channel::Email), Some(minute));
        assert!(Try::begin(&lanes, &mail).is_none(), "the next one waits again");
        tokio::time::sleep(minute).await;
        Try::begin(&lanes, &mail).unwrap().came_back(Reached::OtherSide);
        assert_eq!(Lanes::outage_lasts(&lanes, Channel::Email), None);
        assert_eq!(Lanes::outage_lasts(&lanes, Channel::Slack), None);
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
