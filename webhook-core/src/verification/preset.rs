//! The table of presets: all that is known of each sender, as data.
//!
//! `verification/tests/presets.rs` has a test vector for each row: the sender's published one, or one computed by the
//! rule that its documents state.

use serde::{Deserialize, Serialize};

use super::rule::{
    Algorithm, Check, Encoding, HmacAlgorithm, KeyForm, SignatureRule, Signed, Timestamp, TimestampPlace,
};

/// A sender whose way to call is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Preset {
    /// GitHub, with `X-Hub-Signature-256`.
    #[serde(rename = "github")]
    GitHub,
    /// GitLab, with a secret token or a signing token.
    #[serde(rename = "gitlab")]
    GitLab,
    /// Stripe, with `Stripe-Signature`.
    Stripe,
    /// Slack: events, slash commands and interactions.
    Slack,
    /// Shopify, with `X-Shopify-Hmac-Sha256`.
    Shopify,
    /// Twilio, with `X-Twilio-Signature`.
    Twilio,
    /// Linear, with `Linear-Signature`.
    Linear,
    /// Integrations of Sentry, with `Sentry-Hook-Signature`.
    Sentry,
    /// Trello, with `X-Trello-Webhook`.
    Trello,
    /// Meta: WhatsApp, Messenger, Instagram.
    Meta,
    /// Change notifications of Microsoft Graph.
    MicrosoftGraph,
    /// CloudEvents 1.0 over HTTP, and Azure Event Grid.
    #[serde(rename = "cloudevents")]
    CloudEvents,
    /// Standard Webhooks, and Svix.
    StandardWebhooks,
}

/// Call by which a preset's sender checks that a URL is its user's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Handshake {
    /// The sender makes no such call.
    None,
    /// A signed POST with the event `ping`.
    GitHubPing,
    /// A signed POST with a challenge, which is sent back.
    SlackChallenge,
    /// A GET with `hub.challenge` and a verify token.
    MetaChallenge,
    /// A POST with `validationToken` in the query, which is sent back.
    GraphToken,
    /// A call with the method HEAD.
    Head,
    /// An OPTIONS with `WebHook-Request-Origin`, or Event Grid's `SubscriptionValidation`.
    CloudEvents,
}

impl Handshake {
    /// Returns the form of the call, for people. `None` if the sender makes no such call.
    #[must_use]
    pub fn form(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::GitHubPing => Some("signed ping"),
            Self::SlackChallenge => Some("signed url_verification"),
            Self::MetaChallenge => Some("GET with hub.challenge and the verify token"),
            Self::GraphToken => Some("POST with validationToken"),
            Self::Head => Some("HEAD"),
            Self::CloudEvents => Some("OPTIONS with WebHook-Request-Origin, or SubscriptionValidation"),
        }
    }
}

/// Place of the event id that a sender repeats with each attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PresetKey {
    /// The sender gives none.
    None,
    /// In a header. An id that was signed goes before it.
    Header(&'static str),
    /// In the body, at this pointer.
    Body(&'static str),
    /// `source` and `id` of a CloudEvent together, or `/0/id` of Event Grid's own schema.
    CloudEvent,
}

impl PresetKey {
    /// Returns the place, for people: the name of a header, or a pointer into the body.
    #[must_use]
    pub fn place(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Header(place) | Self::Body(place) => Some(place),
            Self::CloudEvent => Some("source and id"),
        }
    }
}

/// A row of the table.
pub(super) struct PresetRow {
    pub(super) preset: Preset,
    /// The name on the wire.
    pub(super) name: &'static str,
    /// The name for people.
    pub(super) title: &'static str,
    pub(super) checks: &'static [Check<'static>],
    /// The status that the sender takes for success, where it does not take 202.
    pub(super) status: Option<u16>,
    pub(super) key: PresetKey,
    pub(super) handshake: Handshake,
    /// Set if the form field `payload` holds the body as JSON.
    pub(super) payload_field: bool,
}

/// Seconds that a signed time may be from now, in either direction.
const TOLERANCE_S: u32 = 300;

const fn header_time(name: &'static str) -> Option<Timestamp<'static>> {
    Some(Timestamp { place: TimestampPlace::Header(name), tolerance_s: TOLERANCE_S })
}

/// HMAC over the body, in hexadecimal digits.
const fn body_hex(header: &'static str, prefix: &'static str) -> SignatureRule<'static> {
    SignatureRule {
        algorithm: Algorithm::Hmac(HmacAlgorithm::Sha256),
        key: KeyForm::Text,
        header,
        prefix,
        encoding: Encoding::Hex,
        signed: Signed::Template("{body}"),
        id_header: None,
        timestamp: None,
    }
}

/// Standard Webhooks with one family of headers.
const fn standard(
    id: &'static str,
    time: &'static str,
    header: &'static str,
    public: bool,
) -> Check<'static> {
    let (algorithm, key, prefix) = match public {
        false => (Algorithm::Hmac(HmacAlgorithm::Sha256), KeyForm::StandardWebhooks, "v1,"),
        true => (Algorithm::Ed25519, KeyForm::StandardWebhooksPublic, "v1a,"),
    };
    Check::Signature(SignatureRule {
        algorithm,
        key,
        header,
        prefix,
        encoding: Encoding::Base64,
        signed: Signed::Template("{id}.{timestamp}.{body}"),
        id_header: Some(id),
        timestamp: header_time(time),
    })
}

static TABLE: [PresetRow; 13] = [
    PresetRow {
        preset: Preset::GitHub,
        name: "github",
        title: "GitHub",
        checks: &[Check::Signature(body_hex("X-Hub-Signature-256", "sha256="))],
        status: None,
        key: PresetKey::Header("X-GitHub-Delivery"),
        handshake: Handshake::GitHubPing,
        payload_field: true,
    },
    PresetRow {
        preset: Preset::GitLab,
        name: "gitlab",
        title: "GitLab",
        checks: &[
            Check::SecretHeader("X-Gitlab-Token"),
            standard("webhook-id", "webhook-timestamp", "webhook-signature", false),
        ],
        status: None,
        key: PresetKey::Header("Idempotency-Key"),
        handshake: Handshake::None,
        payload_field: false,
    },
    PresetRow {
        preset: Preset::Stripe,
        name: "stripe",
        title: "Stripe",
        checks: &[Check::Signature(SignatureRule {
            signed: Signed::Template("{timestamp}.{body}"),
            timestamp: Some(Timestamp { place: TimestampPlace::InSignature("t="), tolerance_s: TOLERANCE_S }),
            ..body_hex("Stripe-Signature", "v1=")
        })],
        status: None,
        key: PresetKey::Body("/id"),
        handshake: Handshake::None,
        payload_field: false,
    },
    PresetRow {
        preset: Preset::Slack,
        name: "slack",
        title: "Slack",
        checks: &[Check::Signature(SignatureRule {
            signed: Signed::Template("v0:{timestamp}:{body}"),
            timestamp: header_time("X-Slack-Request-Timestamp"),
            ..body_hex("X-Slack-Signature", "v0=")
        })],
        status: Some(200),
        key: PresetKey::Body("/event_id"),
        handshake: Handshake::SlackChallenge,
        payload_field: true,
    },
    PresetRow {
        preset: Preset::Shopify,
        name: "shopify",
        title: "Shopify",
        checks: &[Check::Signature(SignatureRule {
            encoding: Encoding::Base64,
            ..body_hex("X-Shopify-Hmac-Sha256", "")
        })],
        status: Some(200),
        key: PresetKey::Header("X-Shopify-Webhook-Id"),
        handshake: Handshake::None,
        payload_field: false,
    },
    PresetRow {
        preset: Preset::Twilio,
        name: "twilio",
        title: "Twilio",
        checks: &[Check::Signature(SignatureRule {
            algorithm: Algorithm::Hmac(HmacAlgorithm::Sha1),
            encoding: Encoding::Base64,
            signed: Signed::UrlAndForm,
            ..body_hex("X-Twilio-Signature", "")
        })],
        // Twilio reads a body as TwiML, so there must be none.
        status: Some(204),
        key: PresetKey::Header("I-Twilio-Idempotency-Token"),
        handshake: Handshake::None,
        payload_field: false,
    },
    PresetRow {
        preset: Preset::Linear,
        name: "linear",
        title: "Linear",
        checks: &[Check::Signature(SignatureRule {
            timestamp: Some(Timestamp {
                place: TimestampPlace::BodyMilliseconds("webhookTimestamp"),
                tolerance_s: TOLERANCE_S,
            }),
            ..body_hex("Linear-Signature", "")
        })],
        status: Some(200),
        key: PresetKey::Header("Linear-Delivery"),
        handshake: Handshake::None,
        payload_field: false,
    },
    PresetRow {
        preset: Preset::Sentry,
        name: "sentry",
        title: "Sentry",
        checks: &[Check::Signature(body_hex("Sentry-Hook-Signature", ""))],
        status: None,
        key: PresetKey::Body("/data/event/event_id"),
        handshake: Handshake::None,
        payload_field: false,
    },
    PresetRow {
        preset: Preset::Trello,
        name: "trello",
        title: "Trello",
        checks: &[Check::Signature(SignatureRule {
            algorithm: Algorithm::Hmac(HmacAlgorithm::Sha1),
            encoding: Encoding::Base64,
            signed: Signed::Template("{body}{url}"),
            ..body_hex("X-Trello-Webhook", "")
        })],
        status: Some(200),
        key: PresetKey::Body("/action/id"),
        handshake: Handshake::Head,
        payload_field: false,
    },
    PresetRow {
        preset: Preset::Meta,
        name: "meta",
        title: "Meta",
        checks: &[Check::Signature(body_hex("X-Hub-Signature-256", "sha256="))],
        status: Some(200),
        key: PresetKey::None,
        handshake: Handshake::MetaChallenge,
        payload_field: false,
    },
    PresetRow {
        preset: Preset::MicrosoftGraph,
        name: "microsoft-graph",
        title: "Microsoft Graph",
        checks: &[Check::ClientState],
        status: None,
        key: PresetKey::None,
        handshake: Handshake::GraphToken,
        payload_field: false,
    },
    PresetRow {
        preset: Preset::CloudEvents,
        name: "cloudevents",
        title: "CloudEvents",
        checks: &[Check::TokenAlone],
        status: None,
        key: PresetKey::CloudEvent,
        handshake: Handshake::CloudEvents,
        payload_field: false,
    },
    PresetRow {
        preset: Preset::StandardWebhooks,
        name: "standard-webhooks",
        title: "Standard Webhooks",
        checks: &[
            standard("webhook-id", "webhook-timestamp", "webhook-signature", false),
            standard("webhook-id", "webhook-timestamp", "webhook-signature", true),
            standard("svix-id", "svix-timestamp", "svix-signature", false),
            standard("svix-id", "svix-timestamp", "svix-signature", true),
        ],
        status: None,
        key: PresetKey::Header("webhook-id"),
        handshake: Handshake::None,
        payload_field: false,
    },
];

impl Preset {
    /// Returns every preset, in the order of the table.
    pub fn all() -> impl ExactSizeIterator<Item = Self> {
        TABLE.iter().map(|row| row.preset)
    }

    pub(super) fn row(self) -> &'static PresetRow {
        // `every_preset_has_its_row` holds that the order of the rows is that of the variants.
        &TABLE[self as usize]
    }

    /// Returns the name on the wire, such as `github`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.row().name
    }

    /// Returns the name for people, such as `GitHub`.
    #[must_use]
    pub fn title(self) -> &'static str {
        self.row().title
    }

    /// Returns the status that the sender takes for success, where it does not take 202.
    #[must_use]
    pub fn status(self) -> Option<u16> {
        self.row().status
    }

    /// Returns the place of an event's id.
    #[must_use]
    pub fn key(self) -> PresetKey {
        self.row().key
    }

    /// Returns the call by which the sender checks that a URL is its user's.
    #[must_use]
    pub fn handshake(self) -> Handshake {
        self.row().handshake
    }

    /// Returns whether the form field `payload` holds the body as JSON.
    #[must_use]
    pub fn has_payload_field(self) -> bool {
        self.row().payload_field
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_has_its_row() {
        for preset in Preset::all() {
            assert_eq!(preset.row().preset, preset);
            assert_eq!(serde_json::to_value(preset).unwrap(), preset.as_str());
            assert_eq!(serde_json::from_value::<Preset>(preset.as_str().into()).unwrap(), preset);
        }
        // The last variant: one without a row would be out of the table.
        assert_eq!(Preset::StandardWebhooks as usize + 1, Preset::all().len());
    }
}
