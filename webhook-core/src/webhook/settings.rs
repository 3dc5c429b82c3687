//! Settings of a webhook, with their defaults and bounds.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::channel::Channel;
use crate::retry::RetryPolicy;
use crate::sender::SenderSettings;

/// Bounds of settings: least and greatest values, and lengths of texts and lists.
pub(super) mod bounds {
    /// Upper bound on durations: thirty days, in seconds.
    const LONGEST_SECONDS: f64 = 30.0 * 86_400.0;

    pub(in crate::webhook) const LABEL_CHARACTERS: usize = 200;
    pub(in crate::webhook) const TIMEOUT_SECONDS: (f64, f64) = (0.001, LONGEST_SECONDS);
    pub(in crate::webhook) const KEEP_SECONDS: (f64, f64) = (1.0, LONGEST_SECONDS);
    pub(in crate::webhook) const QUEUE_LIMIT: (u32, u32) = (1, 1_000_000);
    pub(in crate::webhook) const RETENTION_DAYS: (u32, u32) = (1, 3_650);
    pub(in crate::webhook) const CONCURRENT_RUNS: (u32, u32) = (1, 10_000);
    /// Calls per minute, and calls of a burst.
    pub(in crate::webhook) const CALLS: (u32, u32) = (1, 1_000_000);
    pub(in crate::webhook) const ATTEMPTS: (u32, u32) = (1, 100);
    pub(in crate::webhook) const PAUSE_SECONDS: (f64, f64) = (0.0, LONGEST_SECONDS);
    pub(in crate::webhook) const FACTOR: (f64, f64) = (1.0, 100.0);
    pub(in crate::webhook) const JITTER: (f64, f64) = (0.0, 1.0);
    pub(in crate::webhook) const RECIPIENTS: usize = 50;
    pub(in crate::webhook) const SLACK_CHANNEL_CHARACTERS: usize = 100;
}

/// Settings of a webhook. The serialized form is the one on the wire: durations are seconds, and an unset
/// setting is `null`.
///
/// ```
/// use webhook_core::webhook::WebhookSettings;
/// let settings = WebhookSettings::default().patched(&serde_json::json!({
///     "label": "CI", "concurrency": {"max": 1, "on_overlap": "skip"},
/// }))?;
/// assert_eq!(settings.label.as_deref(), Some("CI"));
/// let invalid = settings.patched(&serde_json::json!({"retries": {"max_attempts": 0}, "colour": 1})).unwrap_err();
/// assert_eq!(invalid.problems.len(), 2);
/// # Ok::<(), webhook_core::webhook::InvalidSettings>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct WebhookSettings {
    /// Name of the caller, in words for people. Good practice is one webhook per caller.
    #[cfg_attr(feature = "schema", schemars(length(max = bounds::LABEL_CHARACTERS)))]
    pub label: Option<String>,
    /// True if calls are accepted. A disabled webhook answers its callers with an error.
    pub enabled: bool,
    /// True if GET may start a run.
    pub allow_get: bool,
    /// True if an undeclared parameter is a problem. Otherwise it is passed on.
    pub strict: bool,
    /// Upper bound on the duration of one attempt. `None`: no bound.
    #[serde(rename = "timeout_s", with = "seconds::option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<f64>", range(min = bounds::TIMEOUT_SECONDS.0, max = bounds::TIMEOUT_SECONDS.1)))]
    pub timeout: Option<Duration>,
    /// Retry policy for failed attempts.
    #[serde(with = "retries")]
    #[cfg_attr(feature = "schema", schemars(with = "retries::Wire"))]
    pub retries: RetryPolicy,
    /// Upper bound on concurrent runs, and the rule when it is reached.
    pub concurrency: Concurrency,
    /// Upper bound on the queued runs; a further run is refused. `None`: half of the service's limit.
    #[cfg_attr(feature = "schema", schemars(range(min = bounds::QUEUE_LIMIT.0, max = bounds::QUEUE_LIMIT.1)))]
    pub queue_limit: Option<u32>,
    /// Upper bound on the rate of calls.
    pub rate_limit: Option<RateLimit>,
    /// Retention of ended runs, in days. `None`: the retention of the service.
    #[cfg_attr(feature = "schema", schemars(range(min = bounds::RETENTION_DAYS.0, max = bounds::RETENTION_DAYS.1)))]
    pub retention_days: Option<u32>,
    /// Time for which the content of accepted calls is kept, sealed, so that they can be replayed. `None`: it is not kept.
    #[serde(rename = "keep_bodies_s", with = "seconds::option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<f64>", range(min = bounds::KEEP_SECONDS.0, max = bounds::KEEP_SECONDS.1)))]
    pub keep_bodies: Option<Duration>,
    /// Recipients of the news that a run ended.
    pub notifications: Notifications,
    /// Settings for a sender that cannot be taught our names and headers.
    #[serde(flatten)]
    pub sender: SenderSettings,
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
            keep_bodies: None,
            notifications: Notifications::default(),
            sender: SenderSettings::default(),
        }
    }
}

/// Upper bound on the concurrent runs of one webhook, and the rule when it is reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct Concurrency {
    /// Upper bound on concurrent runs. `None`: no bound.
    #[cfg_attr(feature = "schema", schemars(range(min = bounds::CONCURRENT_RUNS.0, max = bounds::CONCURRENT_RUNS.1)))]
    pub max: Option<u32>,
    /// Rule for a run that arrives when `max` runs execute.
    pub on_overlap: OnOverlap,
}

impl Concurrency {
    /// Allows `max` concurrent runs, with this rule for a further run.
    #[must_use]
    pub fn new(max: Option<u32>, on_overlap: OnOverlap) -> Self {
        Self { max, on_overlap }
    }

    /// Returns the effective bound. A rule other than `queue` needs a bound, so it implies a bound of 1.
    #[must_use]
    pub fn bound(&self) -> Option<u32> {
        match self.on_overlap {
            OnOverlap::Queue => self.max,
            _ => Some(self.max.unwrap_or(1)),
        }
    }
}

/// Rule for a run that would overlap with other runs of its webhook.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OnOverlap {
    /// The new run waits.
    #[default]
    Queue,
    /// The new run is recorded and ends `skipped`.
    Skip,
    /// The oldest live run is cancelled in favour of the new one.
    Replace,
    /// The new run waits, and the older run that waited is cancelled.
    Coalesce,
}

/// Upper bound on the rate of calls of a webhook: a token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct RateLimit {
    /// Sustained rate, in calls per minute.
    #[cfg_attr(feature = "schema", schemars(range(min = bounds::CALLS.0, max = bounds::CALLS.1)))]
    pub per_minute: u32,
    /// Capacity of the bucket: the number of calls that may come at once.
    #[cfg_attr(feature = "schema", schemars(range(min = bounds::CALLS.0, max = bounds::CALLS.1)))]
    pub burst: u32,
}

impl RateLimit {
    /// Limits calls to this sustained rate and burst.
    #[must_use]
    pub fn new(per_minute: u32, burst: u32) -> Self {
        Self { per_minute, burst }
    }
}

/// Event that a notification reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventKind {
    /// The run succeeded.
    Success,
    /// The run failed or timed out.
    Failure,
}

/// Recipients of the news that a webhook's run ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct Notifications {
    /// Recipients by email.
    pub email: Option<Email>,
    /// Recipient in Slack.
    pub slack: Option<Slack>,
    /// Recipients through the channels of the host's own notifiers, by the channel's name.
    #[serde(flatten)]
    // Described as additional members: a pattern for their names would also hold for `email` and `slack`.
    #[cfg_attr(feature = "schema", schemars(with = "BTreeMap<String, Recipients>"))]
    pub others: BTreeMap<Channel, Recipients>,
}

impl Notifications {
    /// Iterates over channel and recipient of everyone to be told of `event`.
    pub fn recipients(&self, event: EventKind) -> impl Iterator<Item = (Channel, &str)> {
        self.targets().filter(move |target| target.2.contains(&event)).map(|target| (target.0, target.1))
    }

    /// Iterates over every channel and recipient, with the events to report.
    pub fn targets(&self) -> impl Iterator<Item = (Channel, &str, &[EventKind])> {
        let email = self.email.iter().flat_map(|email| {
            let on = email.on.as_slice();
            email.recipients.iter().map(move |recipient| (Channel::EMAIL, recipient.as_str(), on))
        });
        let slack =
            self.slack.iter().map(|slack| (Channel::SLACK, slack.channel.as_str(), slack.on.as_slice()));
        let others = self.others.iter().flat_map(|(channel, others)| {
            let on = others.on.as_slice();
            others.recipients.iter().map(move |recipient| (*channel, recipient.as_str(), on))
        });
        email.chain(slack).chain(others)
    }
}

/// Notifications through a channel of the host's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Recipients {
    /// Recipients as the channel's notifier knows them, at most 50.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = bounds::RECIPIENTS)))]
    pub recipients: Vec<String>,
    /// Events to report.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub on: Vec<EventKind>,
}

impl Recipients {
    /// Reports these events to these recipients.
    #[must_use]
    pub fn new(recipients: Vec<String>, on: Vec<EventKind>) -> Self {
        Self { recipients, on }
    }
}

/// Notifications by email.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Email {
    /// Addresses, at most 50.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = bounds::RECIPIENTS)))]
    pub recipients: Vec<String>,
    /// Events to report.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub on: Vec<EventKind>,
}

impl Email {
    /// Reports these events to these addresses.
    #[must_use]
    pub fn new(recipients: Vec<String>, on: Vec<EventKind>) -> Self {
        Self { recipients, on }
    }
}

/// Notifications in Slack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Slack {
    /// Slack channel, such as `#reports` or a channel id.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = bounds::SLACK_CHANNEL_CHARACTERS)))]
    pub channel: String,
    /// Events to report.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub on: Vec<EventKind>,
}

impl Slack {
    /// Reports these events to this Slack channel.
    #[must_use]
    pub fn new(channel: impl Into<String>, on: Vec<EventKind>) -> Self {
        Self { channel: channel.into(), on }
    }
}

/// Wire form of a retry policy.
mod retries {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::retry::RetryPolicy;

    #[cfg(feature = "schema")]
    use super::bounds;

    #[derive(Serialize, Deserialize)]
    #[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Retries"))]
    pub(super) struct Wire {
        #[cfg_attr(feature = "schema", schemars(range(min = bounds::ATTEMPTS.0, max = bounds::ATTEMPTS.1)))]
        max_attempts: u32,
        #[serde(with = "super::seconds")]
        #[cfg_attr(
            feature = "schema",
            schemars(with = "f64", range(min = bounds::PAUSE_SECONDS.0, max = bounds::PAUSE_SECONDS.1))
        )]
        base_s: Duration,
        #[cfg_attr(feature = "schema", schemars(range(min = bounds::FACTOR.0, max = bounds::FACTOR.1)))]
        factor: f64,
        #[serde(with = "super::seconds")]
        #[cfg_attr(
            feature = "schema",
            schemars(with = "f64", range(min = bounds::PAUSE_SECONDS.0, max = bounds::PAUSE_SECONDS.1))
        )]
        cap_s: Duration,
        #[cfg_attr(feature = "schema", schemars(range(min = bounds::JITTER.0, max = bounds::JITTER.1)))]
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

/// Wire form of durations: seconds, as an integer if they are whole.
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
