//! The suite of the contract, for each front end.

mod bounded;
mod broken;
mod calls;
mod cross_site;
mod crowded;
mod described;
mod events;
mod managed_runs;
mod management;
mod mounting;
mod plain;
mod previews;
mod refused;
mod replays;
mod senders;
mod server;
mod settings;
mod shutdown;
mod status;
mod trigger;
mod verified;
