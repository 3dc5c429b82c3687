//! Parts of a recipe: settings, steps, fields and a sample.

use serde::Serialize;
use serde_json::Value;

use crate::verification::{Preset, Verification};

/// Way to set up one sender.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Recipe {
    /// Name in addresses and file names, such as `github`.
    pub name: &'static str,
    /// Name for people, such as `GitHub`.
    pub title: &'static str,
    /// Event that starts a run, as a sentence.
    pub starts: &'static str,
    /// Origin of the secret.
    pub secret: SecretOrigin,
    pub(super) settings: fn() -> Value,
    /// Steps at the sender, in their order. The settings are saved before the first.
    pub steps: &'static [RecipeStep],
    /// A call as the sender makes it.
    pub sample: Sample,
    /// Parameters of `daily-sales` that the sample gives, as texts.
    pub parameters: &'static [(&'static str, &'static str)],
    /// Facts about a call that are checked, as sentences.
    pub verified: &'static [&'static str],
    /// Facts about a call that are not checked, as sentences.
    pub not_verified: &'static [&'static str],
}

/// Origin of a sender's secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SecretOrigin {
    /// It is generated at the webhook and entered at the sender.
    Webhook,
    /// The sender shows it, and it is entered at the webhook.
    Sender,
    /// There is none: the token in the URL is all.
    None,
}

/// One step at the sender.
#[derive(Debug, Clone, Copy, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct RecipeStep {
    /// The action, in a sentence or more.
    pub text: &'static str,
    /// Fields to fill in, in the order of the sender's page.
    pub fields: &'static [Field],
    /// Text to paste. `{address}` stands for the URL without its query, and `{host}` for its host and port.
    pub code: Option<&'static str>,
}

/// One field of the sender's page.
#[derive(Debug, Clone, Copy, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Field {
    /// Label of the field.
    pub name: &'static str,
    /// Content of the field.
    #[serde(flatten)]
    pub value: FieldValue,
}

/// Content of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "kind", content = "text", rename_all = "snake_case")]
#[non_exhaustive]
pub enum FieldValue {
    /// The URL of the webhook, with its token.
    Url,
    /// The URL without its query, for a sender that sends the token in a header.
    Address,
    /// The token alone.
    Token,
    /// The secret that was generated at the webhook.
    Secret,
    /// A text to enter, the same for every webhook.
    Text(&'static str),
    /// An option to choose, or a switch to turn on or off.
    Choice(&'static str),
}

/// A call as a sender makes it, without its signature.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Sample {
    /// Name of the file in the folder `samples` that holds the body.
    pub file: &'static str,
    /// Names and values of the headers that matter, `Content-Type` included.
    pub headers: &'static [(&'static str, &'static str)],
    /// The body, with a line break at the end that is not sent.
    pub(super) text: &'static str,
}

impl Recipe {
    /// Returns the settings of the webhook, as a patch.
    #[must_use]
    pub fn settings(&self) -> Value {
        (self.settings)()
    }

    /// Returns the preset of the settings, if there is one for this sender.
    #[must_use]
    pub fn preset(&self) -> Option<Preset> {
        self.verification().as_ref().and_then(Verification::preset)
    }

    /// Returns the rule by which calls are verified; `None` where the token alone counts.
    #[must_use]
    pub fn verification(&self) -> Option<Verification> {
        // `each_recipe_fits_its_sample_and_daily_sales` holds that the settings can be read.
        Verification::read(self.settings().get("verification")?.clone(), &mut Vec::new())
    }
}

impl Sample {
    /// Returns the body as it is sent.
    #[must_use]
    pub fn body(&self) -> &'static str {
        self.text.strip_suffix('\n').unwrap_or(self.text)
    }
}

/// Includes the sample in this file.
macro_rules! sample {
    ($file:literal, $headers:expr) => {
        super::recipe::Sample {
            file: $file,
            headers: $headers,
            text: include_str!(concat!("samples/", $file)),
        }
    };
}
pub(super) use sample;

pub(super) const fn step(text: &'static str, fields: &'static [Field]) -> RecipeStep {
    RecipeStep { text, fields, code: None }
}

pub(super) const fn paste(text: &'static str, fields: &'static [Field], code: &'static str) -> RecipeStep {
    RecipeStep { text, fields, code: Some(code) }
}

pub(super) const fn field(name: &'static str, value: FieldValue) -> Field {
    Field { name, value }
}

pub(super) const fn text(name: &'static str, value: &'static str) -> Field {
    field(name, FieldValue::Text(value))
}

pub(super) const fn choice(name: &'static str, value: &'static str) -> Field {
    field(name, FieldValue::Choice(value))
}

pub(super) const JSON: (&str, &str) = ("Content-Type", "application/json");
