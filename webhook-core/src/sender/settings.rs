//! The settings for senders that cannot be taught our names, headers and answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::mapping::{Conditions, KeySource, MappingRule};
use crate::network::Networks;
use crate::parameters::{Overlay, PassThrough};
use crate::verification::{Preset, Verification};

/// Settings for the sender of a webhook's calls. The serialized form is the one on the wire.
///
/// A webhook with the defaults takes every call by the ordinary rules.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct SenderSettings {
    /// Rule by which a call is known to come from the sender. Default: the token alone counts.
    pub verification: Option<Verification>,
    /// Place of the sender's event id, which replaces the `Idempotency-Key` header. Default: the preset's, or that header.
    pub idempotency_from: Option<KeySource>,
    /// Networks that may call. Default: all.
    pub allowed_networks: Option<Networks>,
    /// Conditions under which a call starts a run. Default: none.
    pub conditions: Option<Conditions>,
    /// Parameters that are taken from places in the call.
    pub mapping: Vec<MappingRule>,
    /// Parameters of query and body that count beside those that are mapped or fixed.
    pub pass_through: PassThrough,
    /// Parameters that no caller sets.
    pub fixed: BTreeMap<String, Value>,
    /// The answer to a call that started a run. Default: what the preset's sender takes for success, or 202.
    pub answer: Option<Answer>,
}

/// The answer to a call that started a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Answer {
    /// The status: 200, 202, or 204 without a body.
    #[cfg_attr(feature = "schema", schemars(with = "u64", extend("enum" = [200, 202, 204])))]
    pub status: u16,
}

/// The status of an accepted call, where nothing else is set.
const ACCEPTED: u16 = 202;

impl SenderSettings {
    /// Returns whether more of a call is looked at than its token and parameters.
    #[must_use]
    pub fn looks_into_calls(&self) -> bool {
        self.verification.is_some()
            || self.idempotency_from.is_some()
            || self.conditions.is_some()
            || !self.mapping.is_empty()
            || self.pass_through != PassThrough::All
            || !self.fixed.is_empty()
    }

    /// Returns the fixed parameters, without a mapping: a run that is started by hand has no sender's call.
    #[must_use]
    pub fn fixed_alone(&self) -> Overlay {
        Overlay::new(PassThrough::All, self.fixed.clone())
    }

    /// Returns the preset, if one is set.
    #[must_use]
    pub fn preset(&self) -> Option<Preset> {
        self.verification.as_ref().and_then(Verification::preset)
    }

    /// Returns the status that tells the sender of success.
    #[must_use]
    pub fn success_status(&self) -> u16 {
        let by_preset = || self.preset().and_then(Preset::status);
        self.answer.map(|answer| answer.status).or_else(by_preset).unwrap_or(ACCEPTED)
    }
}
