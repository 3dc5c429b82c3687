//! Networks in CIDR notation.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A network in CIDR notation, such as `192.0.2.0/24`; a single address is a network of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network(IpNet);

impl Network {
    /// Returns whether an address is in the network. An IPv4 address mapped into IPv6 counts as the IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(address.to_canonical().into()));
        }
        let network: IpNet = text.parse().map_err(|_| InvalidNetwork::Syntax)?;
        if matches!(network, IpNet::V6(network) if network.network().to_ipv4_mapped().is_some()) {
            return Err(InvalidNetwork::Mapped);
        }
        if network.addr() != network.network() {
            return Err(InvalidNetwork::HostBits { network: network.trunc().to_string() });
        }
        Ok(Self(network))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() {
            fmt::Display::fmt(&self.0.addr(), formatter)
        } else {
            fmt::Display::fmt(&self.0, formatter)
        }
    }
}

impl TryFrom<String> for Network {
    type Error = InvalidNetwork;
    fn try_from(text: String) -> Result<Self, InvalidNetwork> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> String {
        network.to_string()
    }
}

/// The reason why a text is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidNetwork {
    /// It is neither an address nor CIDR notation.
    #[error("an address such as 192.0.2.1, or a network such as 192.0.2.0/24, is expected")]
    Syntax,
    /// The address has bits behind the prefix, so one of the two is a mistake.
    #[error("the address is none of a network; {network} is the network that it is in")]
    #[non_exhaustive]
    HostBits {
        /// The network with that prefix.
        network: String,
    },
    /// It is a network of IPv4 addresses mapped into IPv6.
    #[error("write networks of IPv4 as such, as in 192.0.2.0/24")]
    Mapped,
}

/// Networks of which one must contain an address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Networks(#[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))] Vec<Network>);

impl Networks {
    /// Creates a list of these networks.
    #[must_use]
    pub fn new(networks: Vec<Network>) -> Self {
        Self(networks)
    }

    /// Returns whether one of the networks contains an address.
    #[must_use]
    pub fn contain(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }

    /// Returns whether the list has no network.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
