//! Address of the client, as a server tells it.

use std::net::IpAddr;

/// Address from which a request comes. A server puts it into the request's extensions.
///
/// Front ends prefer it to the address of the connection that their framework knows. Behind
/// [trusted proxies](webhook_core::WebhooksBuilder::trusted_proxies), it is that of the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerAddress(pub IpAddr);
