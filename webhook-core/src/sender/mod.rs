//! Senders that cannot be taught our names and headers, such as GitHub, Stripe or a data warehouse.
//!
//! [`SenderSettings`] are what a webhook's owner sets for one. [`SenderSettings::receive`] takes a call through them, in
//! this order: verification, handshake, conditions, mapping. [`SenderSettings::preview`] shows each step for a sample.
//! The steps themselves are in [`verification`](crate::verification), [`handshake`](crate::handshake) and
//! [`mapping`](crate::mapping). A [`Recipe`](recipes::Recipe) says how to set up one sender.

mod checks;
mod form;
mod reception;
pub mod recipes;
mod settings;

#[cfg(test)]
mod tests;

pub use reception::{Preview, ReceivedCall, Reception, ReceptionError, RunContent};
pub use settings::{Answer, SenderSettings};
