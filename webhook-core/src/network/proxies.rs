//! The client's address of a call that came through proxies.

use std::net::IpAddr;

use super::forwarded::{forwarded_for, x_forwarded_for};
use super::networks::Networks;
use crate::raw_call::RawCall;

/// Returns the address of the client that sent a call, where `peer` is the other end of the connection. `None` if that is a
/// trusted proxy which leaves the client unknown.
///
/// A proxy adds the address it was called from at the right. From there on, each address that a trusted proxy added is
/// taken, until one is no trusted proxy itself. What stands further left was written by the client. `Forwarded` (RFC
/// 7239) is read, or `X-Forwarded-For` where it is absent; ports are dropped.
///
/// Two things leave the client unknown:
/// - a trusted proxy wrote no address, or its part of the header has no clear beginning, as behind a quote that is never
///   closed
/// - both headers are there and lead to different addresses, so a client wrote the one that its proxy does not know
///
/// The address of the proxy does not take its place. A client can cause either, and the proxy may be in a network that is
/// allowed to call.
///
/// ```
/// use webhook_core::network::{Networks, client_address};
/// use webhook_core::raw_call::RawCall;
///
/// let trusted = Networks::new(vec!["10.0.0.0/8".parse()?]);
/// let headers: [(&[u8], &[u8]); 1] = [(b"X-Forwarded-For", b"203.0.113.9, 198.51.100.7:4711, 10.0.0.2")];
/// let call = RawCall::new("POST", "https://example.com/", &headers, b"");
/// assert_eq!(client_address("10.0.0.1".parse()?, &call, &trusted), Some("198.51.100.7".parse()?));
/// assert_eq!(client_address("192.0.2.1".parse()?, &call, &trusted), Some("192.0.2.1".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn client_address(peer: IpAddr, call: &RawCall<'_>, trusted: &Networks) -> Option<IpAddr> {
    let peer = peer.to_canonical();
    if !trusted.contain(peer) {
        return Some(peer);
    }
    let forwarded = call.headers("Forwarded").next().is_some();
    let x_forwarded = call.headers("X-Forwarded-For").next().is_some();
    let by_forwarded = || last_untrusted(peer, &forwarded_for(call), trusted);
    let by_x_forwarded = || last_untrusted(peer, &x_forwarded_for(call), trusted);
    match (forwarded, x_forwarded) {
        (true, false) => by_forwarded(),
        (false, true) => by_x_forwarded(),
        (true, true) => by_forwarded().filter(|address| by_x_forwarded() == Some(*address)),
        (false, false) => Some(peer),
    }
}

/// Walks from the right while the address so far is a trusted proxy, which wrote the next one.
fn last_untrusted(peer: IpAddr, hops: &[Option<IpAddr>], trusted: &Networks) -> Option<IpAddr> {
    let mut address = peer;
    for hop in hops.iter().rev() {
        if !trusted.contain(address) {
            break;
        }
        address = (*hop)?;
    }
    Some(address)
}
