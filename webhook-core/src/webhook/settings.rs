//! What people may set on a webhook, with its defaults and its bounds.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::InvalidName;
use crate::retry::RetryPolicy;
use crate::token::mask_tokens;

/// The settings of a webhook. The serialized form is the one on the wire: durations are seconds, an unset
/// setting is `null`.
///
/// ```
/// use webhook_core::webhook::WebhookSettings;
/// let settings = WebhookSettings::default().patched(&serde_json::json!({
///     "label": "CI", "concurrency": {"max": 1, "on_overlap": "skip"},
/// }))?;
/// assert_eq!(settings.label.as_deref(), Some("CI"));
/// let problems = settings.patched(&serde_json::json!({"retries": {"max_attempts": 0}, "colour": 1})).unwrap_err();
/// assert_eq!(problems.len(), 2);
/// # Ok::<(), Vec<webhook_core::webhook::SettingProblem>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct WebhookSettings {
    /// Who calls it, in words for people: one webhook per caller is good practice.
    pub label: Option<String>,
    /// A disabled webhook answers its callers with an error.
    pub enabled: bool,
    /// Whether GET may start a run.
    pub allow_get: bool,
    /// Whether a parameter without a block is a problem instead of being passed on.
    pub strict: bool,
    /// How long one attempt may take. Without one it may take for ever.
    #[serde(rename = "timeout_s", with = "seconds::option")]
    pub timeout: Option<Duration>,
    /// When a failed attempt is tried again.
    #[serde(with = "retries")]
    pub retries: RetryPolicy,
    /// How many runs may execute at once, and what happens to one too many.
    pub concurrency: Concurrency,
    /// How many runs may wait. One more is refused. Without a number, half of what the service has room for.
    pub queue_limit: Option<u32>,
    /// How often it may be called.
    pub rate_limit: Option<RateLimit>,
    /// For how many days ended runs are kept; without a number, as long as the service keeps them.
    pub retention_days: Option<u32>,
    /// Who hears how runs ended.
    pub notifications: Notifications,
}

impl Default for WebhookSettings {
    fn default() -> Self {
        Self {
            label: None,
            enabled: true,
            allow_get: true,
            strict: false,
            timeout: None,
            retries: RetryPolicy::default(),
            concurrency: Concurrency::default(),
            queue_limit: None,
            rate_limit: None,
            retention_days: None,
            notifications: Notifications::default(),
        }
    }
}

/// How many runs of one webhook may execute at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Concurrency {
    /// The most runs that execute at once; without a number there is no bound.
    pub max: Option<u32>,
    /// What happens to a run that comes when as many execute already.
    pub on_overlap: OnOverlap,
}

impl Concurrency {
    /// At most `max` at once, with this rule for one more.
    #[must_use]
    pub fn new(max: Option<u32>, on_overlap: OnOverlap) -> Self {
        Self { max, on_overlap }
    }

    /// The bound that is in force. A rule other than `queue` means nothing without a bound, so it implies one.
    #[must_use]
    pub fn bound(&self) -> Option<u32> {
        match self.on_overlap {
            OnOverlap::Queue => self.max,
            _ => Some(self.max.unwrap_or(1)),
        }
    }
}

/// What happens to a run that would overlap with others of its webhook.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OnOverlap {
    /// It waits.
    #[default]
    Queue,
    /// It is recorded and ends `skipped`.
    Skip,
    /// The oldest live one is cancelled in its favour.
    Replace,
    /// It waits, and the older one that waited is cancelled.
    Coalesce,
}

/// How often a webhook may be called: a token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RateLimit {
    /// Calls per minute in the long run.
    pub per_minute: u32,
    /// How many calls may come at once.
    pub burst: u32,
}

impl RateLimit {
    /// A limit with this long-run rate and burst.
    #[must_use]
    pub fn new(per_minute: u32, burst: u32) -> Self {
        Self { per_minute, burst }
    }
}

/// Through which medium a notification goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Channel {
    /// An email to one address.
    Email,
    /// A message in one Slack channel.
    Slack,
}

impl Channel {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Slack => "slack",
        }
    }
}

impl std::str::FromStr for Channel {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = [Self::Email, Self::Slack].into_iter().find(|channel| channel.as_str() == text);
        known.ok_or(InvalidName::new("channel", "email or slack"))
    }
}

/// What a notification tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventKind {
    /// The run succeeded.
    Success,
    /// The run failed or timed out.
    Failure,
}

/// Who hears how the runs of a webhook ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Notifications {
    /// By email.
    pub email: Option<Email>,
    /// In Slack.
    pub slack: Option<Slack>,
}

impl Notifications {
    /// Everyone who is to hear of `event`, as channel and recipient.
    pub fn recipients(&self, event: EventKind) -> impl Iterator<Item = (Channel, &str)> {
        self.targets().filter(move |target| target.2.contains(&event)).map(|target| (target.0, target.1))
    }

    /// Every channel and recipient with the events it is told of.
    pub fn targets(&self) -> impl Iterator<Item = (Channel, &str, &[EventKind])> {
        let email = self.email.iter().flat_map(|email| {
            let on = email.on.as_slice();
            email.recipients.iter().map(move |recipient| (Channel::Email, recipient.as_str(), on))
        });
        let slack =
            self.slack.iter().map(|slack| (Channel::Slack, slack.channel.as_str(), slack.on.as_slice()));
        email.chain(slack)
    }
}

/// Notifications by email.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Email {
    /// The addresses, at most 50.
    pub recipients: Vec<String>,
    /// Of what they are told.
    pub on: Vec<EventKind>,
}

impl Email {
    /// Tells these addresses of these events.
    #[must_use]
    pub fn new(recipients: Vec<String>, on: Vec<EventKind>) -> Self {
        Self { recipients, on }
    }
}

/// Notifications in Slack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Slack {
    /// The channel, such as `#reports` or a channel id.
    pub channel: String,
    /// Of what it is told.
    pub on: Vec<EventKind>,
}

impl Slack {
    /// Tells this channel of these events.
    #[must_use]
    pub fn new(channel: impl Into<String>, on: Vec<EventKind>) -> Self {
        Self { channel: channel.into(), on }
    }
}

/// One setting that cannot be as asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{field}: {message}")]
#[non_exhaustive]
pub struct SettingProblem {
    /// The setting, with dots between levels, such as `retries.max_attempts`.
    pub field: String,
    /// Kind of the problem, stable for programs.
    pub code: SettingCode,
    /// What is wrong and what would be right, for people.
    pub message: String,
}

/// The kind of a [`SettingProblem`]. Its text on the wire is snake_case, such as `out_of_range`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SettingCode {
    /// The field is needed and was not given.
    Required,
    /// The field may be given once only.
    Repeated,
    /// There is no such field, or none of that name.
    Unknown,
    /// The value has another JSON type.
    WrongType,
    /// The value is too small, too large or too long.
    OutOfRange,
    /// The value has the right type and not the right form.
    Invalid,
    /// The text holds a webhook's token, which would be shown to everyone who sees the settings.
    ContainsToken,
    /// The server has no notifier for this channel.
    IntegrationMissing,
}

impl SettingProblem {
    /// A problem with `field`. Tokens in what a caller gave are masked.
    #[must_use]
    pub fn new(field: impl Into<String>, code: SettingCode, message: impl Into<String>) -> Self {
        let masked = |text: String| mask_tokens(&text).into_owned();
        Self { field: masked(field.into()), code, message: masked(message.into()) }
    }
}

/// A retry policy in its wire form.
mod retries {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::retry::RetryPolicy;

    #[derive(Serialize, Deserialize)]
    struct Wire {
        max_attempts: u32,
        #[serde(with = "super::seconds")]
        base_s: Duration,
        factor: f64,
        #[serde(with = "super::seconds")]
        cap_s: Duration,
        jitter: f64,
    }

    pub(super) fn serialize<S: Serializer>(policy: &RetryPolicy, serializer: S) -> Result<S::Ok, S::Error> {
        let RetryPolicy { max_attempts, base, factor, cap, jitter } = *policy;
        Wire { max_attempts, base_s: base, factor, cap_s: cap, jitter }.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<RetryPolicy, D::Error> {
        let Wire { max_attempts, base_s, factor, cap_s, jitter } = Wire::deserialize(deserializer)?;
        Ok(RetryPolicy { max_attempts, base: base_s, factor, cap: cap_s, jitter })
    }
}

/// Durations as seconds: a whole number where they are whole.
pub(super) mod seconds {
    use std::time::Duration;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(in crate::webhook) fn serialize<S: Serializer>(
        duration: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        if duration.subsec_nanos() == 0 {
            serializer.serialize_u64(duration.as_secs())
        } else {
            serializer.serialize_f64(duration.as_secs_f64())
        }
    }

    pub(in crate::webhook) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(deserializer)?).map_err(D::Error::custom)
    }

    pub(in crate::webhook) mod option {
        use std::time::Duration;

        use serde::de::Error;
        use serde::{Deserialize, Deserializer, Serializer};

        pub(in crate::webhook) fn serialize<S: Serializer>(
            duration: &Option<Duration>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            match duration {
                Some(duration) => super::serialize(duration, serializer),
                None => serializer.serialize_none(),
            }
        }

        pub(in crate::webhook) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<Duration>, D::Error> {
            Option::<f64>::deserialize(deserializer)?
                .map(|seconds| Duration::try_from_secs_f64(seconds).map_err(D::Error::custom))
                .transpose()
        }
    }
}
