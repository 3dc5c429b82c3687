//! Sends notifications from the outbox.
//!
//! [`poll`] claims due deliveries, and [`sender`] tries each in a task of its own.
//! [`breaker`] decides which channels may be tried, and [`slots`] how many tries may begin, and to which
//! recipients. Both decide without I/O and without a clock.
//! A claimed delivery may not begin while another to the same slow recipient is in progress. It is claimed
//! again when its lease has ended.
//! [`outbox_bound`] bounds the number of pending deliveries.

mod breaker;
mod outbox_bound;
mod poll;
mod sender;
mod slots;

pub(super) use outbox_bound::OutboxBound;
pub(super) use poll::send_deliveries;
pub(super) use sender::DeliverySender;
