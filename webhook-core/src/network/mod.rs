//! Networks that may call a webhook, and the client's address of a call that came through proxies.

mod form;
mod forwarded;
mod networks;
mod proxies;

#[cfg(test)]
mod tests;

pub use networks::{InvalidNetwork, Network, Networks};
pub use proxies::client_address;
