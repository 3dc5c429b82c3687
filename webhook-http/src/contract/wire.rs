//! Wire types: each writes itself as JSON and derives its JSON Schema, so a field stands in one place.

pub(crate) mod call;
pub(crate) mod delivery;
pub(crate) mod event;
pub(crate) mod page;
pub(crate) mod preset;
pub(crate) mod problem;
pub(crate) mod recipe;
pub(crate) mod request;
pub(crate) mod run;
pub(crate) mod sender;
pub(crate) mod service;
pub(crate) mod settings;
pub(crate) mod value;
pub(crate) mod webhook;
pub(crate) mod workflow;
