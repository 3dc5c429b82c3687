//! Names and ids: workflow kinds and ids, and the UUIDv7 ids of webhooks, runs and deliveries.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

use crate::error::{InvalidName, NameKind};

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $expected:literal, $first:expr, $rest:expr, $max:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $type(Arc<str>);

        impl $type {
            /// Parses a name.
            ///
            /// Fails with [`InvalidName`] when the text does not have the form above.
            pub fn new(text: &str) -> Result<Self, InvalidName> {
                let first: fn(u8) -> bool = $first;
                let rest: fn(u8) -> bool = $rest;
                match text.as_bytes() {
                    [head, tail @ ..]
                        if tail.len() < $max && first(*head) && tail.iter().all(|byte| rest(*byte)) =>
                    {
                        Ok(Self(text.into()))
                    }
                    _ => Err(InvalidName::new(NameKind::$type, $expected)),
                }
            }

            /// Returns the name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                Self::new(&text)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0.as_ref().to_owned()
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        crate::schema::text_schema!($type, "pattern", concat!("^", $expected, "$"));

        impl fmt::Display for $type {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, formatter)
            }
        }
    };
}

name!(
    /// Kind of a workflow, such as `report` or `notebook`: `[a-z][a-z0-9-]{0,31}`.
    WorkflowKind,
    "[a-z][a-z0-9-]{0,31}",
    |byte| byte.is_ascii_lowercase(),
    |byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-',
    32
);

name!(
    /// Id of a workflow within its kind: `[A-Za-z0-9][A-Za-z0-9._-]{0,127}`.
    WorkflowId,
    "[A-Za-z0-9][A-Za-z0-9._-]{0,127}",
    |byte| byte.is_ascii_alphanumeric(),
    |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'),
    128
);

/// Kind and id of one workflow. As text: `kind/id`.
///
/// ```
/// use webhook_core::id::WorkflowKey;
/// let key: WorkflowKey = "report/daily-sales".parse()?;
/// assert_eq!(key.kind.as_str(), "report");
/// # Ok::<(), webhook_core::error::InvalidName>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct WorkflowKey {
    /// Kind of the workflow.
    pub kind: WorkflowKind,
    /// Id within the kind.
    pub id: WorkflowId,
}

impl WorkflowKey {
    /// Combines a kind and an id.
    pub fn new(kind: WorkflowKind, id: WorkflowId) -> Self {
        Self { kind, id }
    }
}

impl fmt::Display for WorkflowKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.kind, self.id)
    }
}

impl FromStr for WorkflowKey {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let (kind, id) = text.split_once('/').ok_or(InvalidName::new(NameKind::Workflow, "kind/id"))?;
        Ok(Self { kind: kind.parse()?, id: id.parse()? })
    }
}

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

/// Number of bits of a UUIDv7 that are neither time, version nor variant.
const TAIL_BITS: u32 = 74;

/// Upper bound on the ids of one millisecond. Stores keep runs of neighbouring milliseconds together, so
/// there must not be many, whatever the clock does.
const MOST_IN_MILLISECOND: u32 = 256;
/// Upper bound on the ids of one millisecond while ids are far ahead of the clock, as after it was set back.
/// Their time then advances by itself.
const MOST_WHILE_AHEAD: u32 = 12;
/// Lead over the clock that counts as far ahead, in milliseconds.
const FAR_AHEAD: u64 = 1_000;

/// Time part, tail and count of the newest id.
static LAST: Mutex<Moment> = Mutex::new(Moment { milliseconds: 0, tail: 0, count: 0 });

/// Position of an id in the order of all ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Moment {
    milliseconds: u64,
    /// The 74 bits after the time.
    tail: u128,
    /// Number of ids with this millisecond so far.
    count: u32,
}

fn next_uuid(now: SystemTime) -> Uuid {
    let milliseconds = now.duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis() as u64);
    let mut last = LAST.lock();
    *last = following(*last, milliseconds, rand::random(), rand::random());
    compose(last.milliseconds, last.tail)
}

/// Returns the successor of `last`: fresh random bits in a new millisecond, otherwise a random step forward.
///
/// Ids advance even while the clock stands still or jumps back.
fn following(last: Moment, milliseconds: u64, random: u128, step: u32) -> Moment {
    // The top bit starts at zero, which leaves room for more ids within this millisecond.
    let first = |milliseconds| Moment { milliseconds, tail: random & ((1 << (TAIL_BITS - 1)) - 1), count: 1 };
    if milliseconds > last.milliseconds {
        return first(milliseconds);
    }
    let is_far = last.milliseconds - milliseconds >= FAR_AHEAD;
    let most = if is_far { MOST_WHILE_AHEAD } else { MOST_IN_MILLISECOND };
    let tail = last.tail + 1 + u128::from(step);
    if last.count >= most || tail >> TAIL_BITS > 0 {
        return first(last.milliseconds + 1);
    }
    Moment { milliseconds: last.milliseconds, tail, count: last.count + 1 }
}

fn compose(milliseconds: u64, tail: u128) -> Uuid {
    let time = u128::from(milliseconds & 0xffff_ffff_ffff) << 80;
    let high = (tail >> 62 & 0xfff) << 64;
    let low = tail & ((1 << 62) - 1);
    Uuid::from_u128(time | 0x7 << 76 | high | 0b10 << 62 | low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_their_grammar() {
        for good in ["a", "report", "my-kind2", &"k".repeat(32)] {
            assert!(WorkflowKind::new(good).is_ok(), "{good}");
        }
        for bad in ["", "Report", "2kind", "-a", "a_b", "é", &"k".repeat(33)] {
            assert!(WorkflowKind::new(bad).is_err(), "{bad}");
        }
        for good in ["a", "0", "Daily.Sales_2-x", &"i".repeat(128)] {
            assert!(WorkflowId::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".hidden", "-a", "a/b", "a b", "é", "..", &"i".repeat(129)] {
            assert!(WorkflowId::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_workflow_key_is_kind_slash_id() {
        let key: WorkflowKey = "report/daily-sales".parse().unwrap();
        assert_eq!(key.to_string(), "report/daily-sales");
        assert!("report".parse::<WorkflowKey>().is_err());
        assert!("report/a/b".parse::<WorkflowKey>().is_err());
    }

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

    #[test]
    fn a_full_millisecond_moves_on_to_the_next() {
        let full = Moment { milliseconds: 5, tail: (1 << TAIL_BITS) - 1, count: 9 };
        assert_eq!(following(full, 5, 9, 0), Moment { milliseconds: 6, tail: 9, count: 1 });
        assert!(compose(6, 0) > compose(5, full.tail));
    }

    /// Returns the milliseconds of ids generated at these times.
    fn made_at(times: impl Iterator<Item = u64>) -> Vec<u64> {
        let mut last = Moment { milliseconds: 0, tail: 0, count: 0 };
        let made = times.map(|time| {
            let next = following(last, time, rand::random(), rand::random());
            assert!(compose(next.milliseconds, next.tail) > compose(last.milliseconds, last.tail));
            assert_eq!(next.tail >> TAIL_BITS, 0);
            last = next;
            next.milliseconds
        });
        made.collect()
    }

    /// Returns the largest number of ids with the same first 44 bits of time, which stores keep together.
    fn most_together(ids: &[u64]) -> usize {
        ids.chunk_by(|a, b| a >> 4 == b >> 4).map(<[_]>::len).max().unwrap_or(0)
    }

    #[test]
    fn few_ids_share_their_time_when_the_clock_goes_back_or_stands_still() {
        let hour = 3_600_000;
        let set_back = made_at([2 * hour].into_iter().chain((0..36_000).map(|tick| hour + tick * 100)));
        assert!(most_together(&set_back) <= 200, "{}", most_together(&set_back));
        let still = made_at(std::iter::repeat_n(hour, 400_000));
        assert!(most_together(&still) <= 16 * 256, "{}", most_together(&still));
        assert!(most_together(&still[300_000..]) <= 200);
    }

    #[test]
    fn ids_stay_close_to_a_clock_that_moves_however_many_are_made() {
        // A hundred in each millisecond, for five seconds.
        let ids = made_at((0..500_000).map(|number| 1_000 + number / 100));
        let lead = ids.iter().zip(0..).map(|(id, number)| id - (1_000 + number / 100)).max().unwrap();
        assert!(lead < 2, "{lead} ms");
    }
}
