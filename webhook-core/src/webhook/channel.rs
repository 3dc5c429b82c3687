//! Channels: the media of notifications, named by those who serve them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{InvalidName, NameKind};

/// Upper bound on a name, in bytes.
const NAME_BYTES: usize = 31;
const FORM: &str = "[a-z][a-z0-9_-]{0,30}";

/// Name of a medium of notifications, such as `email`.
///
/// A host names the channels of its own notifiers. A webhook's settings, its deliveries, and the label of the metric
/// `webhook_channel_out` bear that name.
///
/// ```
/// use webhook_core::webhook::Channel;
/// const TEAMS: Channel = Channel::new("teams");
/// assert_eq!("teams".parse(), Ok(TEAMS));
/// assert!("Teams!".parse::<Channel>().is_err());
/// ```
// Inline, since deliveries are grouped and looked up by it: copying and comparing it touches no other memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Channel {
    /// The name, with zeros after it. No name has a zero byte, so equal bytes are equal names, in their order.
    bytes: [u8; NAME_BYTES],
}

impl Channel {
    /// An email to one address.
    pub const EMAIL: Self = Self::new("email");
    /// A message in one Slack channel.
    pub const SLACK: Self = Self::new("slack");

    /// Names a channel: a lower-case letter, then up to 30 of `a-z`, `0-9`, `_` and `-`.
    ///
    /// # Panics
    /// For another form, and so at compile time in a constant. Texts that come from elsewhere are parsed.
    #[must_use]
    pub const fn new(name: &str) -> Self {
        match Self::checked(name) {
            Some(channel) => channel,
            None => panic!("a channel has no such name"),
        }
    }

    const fn checked(name: &str) -> Option<Self> {
        let name = name.as_bytes();
        if name.is_empty() || name.len() > NAME_BYTES || !name[0].is_ascii_lowercase() {
            return None;
        }
        let mut bytes = [0; NAME_BYTES];
        let mut index = 0;
        while index < name.len() {
            if !matches!(name[index], b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-') {
                return None;
            }
            bytes[index] = name[index];
            index += 1;
        }
        Some(Self { bytes })
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let length = self.bytes.iter().position(|byte| *byte == 0).unwrap_or(NAME_BYTES);
        // All bytes of a name are ASCII.
        std::str::from_utf8(&self.bytes[..length]).unwrap_or_default()
    }
}

impl FromStr for Channel {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::checked(text).ok_or(InvalidName::new(NameKind::Channel, FORM))
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Channel({self})")
    }
}

impl Serialize for Channel {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Channel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

crate::schema::text_schema!(Channel, "pattern", format!("^{FORM}$"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_have_one_form() {
        for name in ["email", "a", "ms-teams_2", &"x".repeat(31)] {
            let channel: Channel = name.parse().unwrap();
            assert_eq!(channel.as_str(), name);
            assert_eq!(serde_json::to_string(&channel).unwrap(), format!("{name:?}"));
            assert_eq!(serde_json::from_str::<Channel>(&format!("{name:?}")).unwrap(), channel);
        }
        for name in ["", "Email", "1", "-a", "a b", "a.b", "é", "a\0", &"x".repeat(32)] {
            assert!(name.parse::<Channel>().is_err(), "{name:?}");
        }
        assert!(Channel::EMAIL < Channel::SLACK);
    }
}
