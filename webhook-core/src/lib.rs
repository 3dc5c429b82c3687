//! Inbound webhook triggers for Rust applications.

pub mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod error;
pub mod events;
pub mod executor;
pub mod id;
pub mod live;
pub mod management;
pub mod masking;
pub mod memory;
pub mod notifier;
pub mod parameters;
pub mod retry;
pub mod run;
pub mod service;
pub mod store;
pub mod token;
pub mod trigger;
pub mod webhook;
pub mod worker;

pub use service::Webhooks;
