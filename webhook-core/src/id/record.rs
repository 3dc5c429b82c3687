//! Ids of records: UUIDs of version 7.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

use super::sequence::next_uuid;
use crate::error::{InvalidName, NameKind};

macro_rules! uuid_id {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        ///
        /// A UUIDv7 (RFC 9562): ids generated later in one process sort after earlier ones. The text form is
        /// lower-case and hyphenated; no other form is parsed.
        #[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $type(Uuid);

        impl $type {
            /// Generates an id for the time `now`, greater than every earlier id of this process.
            pub fn generate(now: SystemTime) -> Self {
                Self(next_uuid(now))
            }

            /// Takes the sixteen bytes of an id, as read from a store's key.
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// Returns the approximate time at which it was generated. While the clock goes back, ids keep
            /// the earlier time.
            pub fn made_at(&self) -> SystemTime {
                UNIX_EPOCH + Duration::from_millis((self.0.as_u128() >> 80) as u64)
            }

            /// Returns the sixteen bytes in big-endian order, which sort like the ids.
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        /// Orders like the bytes, but faster: stores compare ids all the time.
        impl Ord for $type {
            fn cmp(&self, other: &Self) -> Ordering {
                self.0.as_u128().cmp(&other.0.as_u128())
            }
        }

        impl PartialOrd for $type {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        /// Hashes the second half, which no two ids of a process share except by chance.
        impl Hash for $type {
            fn hash<H: Hasher>(&self, hasher: &mut H) {
                hasher.write_u64(self.0.as_u64_pair().1);
            }
        }

        impl FromStr for $type {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                let form = "a UUID in lower-case hyphenated form";
                parse_uuid(text).map(Self).ok_or(InvalidName::new(NameKind::$type, form))
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(id: $type) -> String {
                id.to_string()
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.0.as_hyphenated().encode_lower(&mut Uuid::encode_buffer()))
            }
        }

        crate::schema::text_schema!($type, "format", "uuid");

        impl fmt::Display for $type {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self.0.as_hyphenated(), formatter)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self.0.as_hyphenated(), formatter)
            }
        }
    };
}

uuid_id!(
    /// Id of a webhook.
    WebhookId
);
uuid_id!(
    /// Id of a run, the same over all attempts. A host can deduplicate by it.
    RunId
);
uuid_id!(
    /// Id of a delivery, which is one notification to one recipient.
    DeliveryId
);
uuid_id!(
    /// The id of a secret with which a sender signs its calls.
    SecretId
);
uuid_id!(
    /// Id of a call in the call log.
    CallId
);

fn parse_uuid(text: &str) -> Option<Uuid> {
    let canonical = text.len() == 36 && !text.bytes().any(|byte| byte.is_ascii_uppercase());
    if canonical { Uuid::try_parse(text).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_version_seven_and_read_back_from_their_text() {
        let id = RunId::generate(SystemTime::now());
        let text = id.to_string();
        assert_eq!(text.as_bytes()[14], b'7');
        assert!(matches!(text.as_bytes()[19], b'8' | b'9' | b'a' | b'b'));
        assert_eq!(text.parse::<RunId>().unwrap(), id);
        assert_eq!(RunId::from_bytes(*id.as_bytes()), id);
        let now = SystemTime::now() + Duration::from_secs(86_400);
        let since = now.duration_since(RunId::generate(now).made_at()).unwrap();
        assert!(since < Duration::from_millis(1), "{since:?}");
        assert!(text.to_uppercase().parse::<RunId>().is_err());
        assert!(text.replace('-', "").parse::<RunId>().is_err());
    }

    #[test]
    fn ids_grow_even_when_the_clock_jumps_back_an_hour() {
        let now = SystemTime::now();
        let mut last = RunId::generate(now);
        for step in 0..10_000_u64 {
            let clock = if step % 2 == 0 { now - Duration::from_secs(3600) } else { now };
            let next = RunId::generate(clock);
            assert!(next > last);
            last = next;
        }
    }
}
