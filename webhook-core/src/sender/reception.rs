//! From the bytes of a call to the content of its run: verification, handshake, conditions and mapping, in this order.

use std::time::SystemTime;

use super::settings::SenderSettings;
use crate::handshake::{HandshakeAnswer, signed_handshake};
use crate::mapping::{CallContent, Condition, EventKey, event_key, overlay, takes_body};
use crate::parameters::{
    BodyError, BodyParameters, Overlay, ParameterLimits, PassThrough, Payload, PayloadForms, QueryParameters,
    parse_payload,
};
use crate::raw_call::RawCall;
use crate::secret::Secret;
use crate::setting::SettingProblem;
use crate::verification::{Preset, Refusal, Verified, verify};

/// A call whose body was read, at a webhook that looks into calls.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct ReceivedCall<'a> {
    /// The call as it was sent.
    pub raw: &'a RawCall<'a>,
    /// Its query, without the token.
    pub query: &'a QueryParameters,
    /// Its media type.
    pub content_type: Option<&'a str>,
}

impl<'a> ReceivedCall<'a> {
    /// Creates a call of these parts.
    #[must_use]
    pub fn new(raw: &'a RawCall<'a>, query: &'a QueryParameters, content_type: Option<&'a str>) -> Self {
        Self { raw, query, content_type }
    }
}

/// Kind of a call, by its webhook's settings.
#[derive(Debug)]
#[non_exhaustive]
pub enum Reception {
    /// The sender's check of the URL.
    Handshake(HandshakeAnswer),
    /// A call that does not meet this condition.
    Ignored(Condition),
    /// A call that starts a run.
    Run(RunContent),
}

/// Content of a call that starts a run.
#[derive(Debug)]
#[non_exhaustive]
pub struct RunContent {
    /// Parameters in the body.
    pub body: BodyParameters,
    /// Mapped and fixed parameters, which go before query and body.
    pub overlay: Overlay,
    /// Idempotency key of the call.
    pub key: EventKey,
}

impl RunContent {
    /// Content of a call at a webhook that does not look into calls.
    pub(crate) fn of_body(body: BodyParameters) -> Self {
        Self { body, overlay: Overlay::default(), key: EventKey::FromCaller }
    }
}

/// The reason why a call is refused before its parameters are looked at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceptionError {
    /// It is not its sender's.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Its body cannot be read.
    #[error(transparent)]
    Body(#[from] BodyError),
}

/// Steps that a sample of a call would take. A step that fails does not hide the next.
#[derive(Debug)]
#[non_exhaustive]
pub struct Preview {
    /// Verdict on the signature; absent where nothing is verified.
    pub verification: Option<Result<Verified, Refusal>>,
    /// Set if the call is a handshake.
    pub handshake: bool,
    /// The first condition that is not met.
    pub unmet: Option<Condition>,
    /// Settings that look where the sample has nothing.
    pub missing: Vec<SettingProblem>,
    /// Content that the run would get.
    pub content: Result<RunContent, BodyError>,
}

impl SenderSettings {
    /// Verifies a call and takes the content of its run from it.
    ///
    /// # Errors
    /// [`ReceptionError`] when it is not its sender's, or its body cannot be read.
    pub fn receive(
        &self,
        call: &ReceivedCall<'_>,
        secrets: &[Secret],
        limits: &ParameterLimits,
        now: SystemTime,
    ) -> Result<Reception, ReceptionError> {
        let verified = self.verify(call, secrets, now).transpose()?.unwrap_or_default();
        let payload = self.read_payload(call, limits)?;
        let content = CallContent::new(call.raw, call.query, &payload);
        if let Some(answer) = self.preset().and_then(|preset| signed_handshake(preset, &content)) {
            return Ok(Reception::Handshake(answer));
        }
        if let Some(unmet) = self.unmet(&content) {
            return Ok(Reception::Ignored(unmet.clone()));
        }
        let (overlay, key) = self.look_into(&content, &verified);
        let body = self.parameters(payload)?;
        Ok(Reception::Run(RunContent { body, overlay, key }))
    }

    /// Says what a sample of a call would lead to.
    #[must_use]
    pub fn preview(
        &self,
        call: &ReceivedCall<'_>,
        secrets: &[Secret],
        limits: &ParameterLimits,
        now: SystemTime,
    ) -> Preview {
        let verification = self.verify(call, secrets, now);
        let (payload, flaw) = match self.read_payload(call, limits) {
            Ok(payload) => (payload, None),
            Err(error) => (Payload::empty(), Some(error)),
        };
        let content = CallContent::new(call.raw, call.query, &payload);
        let handshake = self.preset().and_then(|preset| signed_handshake(preset, &content)).is_some();
        let unmet = self.unmet(&content).cloned();
        let missing = self.missing_in(&content);
        let verified = verification.as_ref().and_then(|verified| verified.clone().ok()).unwrap_or_default();
        let (overlay, key) = self.look_into(&content, &verified);
        let body = flaw.map_or_else(|| self.parameters(payload), Err);
        let content = body.map(|body| RunContent { body, overlay, key });
        Preview { verification, handshake, unmet, missing, content }
    }

    fn verify(
        &self,
        call: &ReceivedCall<'_>,
        secrets: &[Secret],
        now: SystemTime,
    ) -> Option<Result<Verified, Refusal>> {
        self.verification.as_ref().map(|verification| verify(verification, call.raw, secrets, now))
    }

    fn read_payload<'a>(
        &self,
        call: &ReceivedCall<'a>,
        limits: &ParameterLimits,
    ) -> Result<Payload<'a>, BodyError> {
        let payload_field = self.preset().is_some_and(Preset::has_payload_field);
        let forms = PayloadForms { payload_field, multipart: true };
        parse_payload(call.content_type, call.raw.body, limits, forms)
    }

    fn unmet(&self, content: &CallContent<'_>) -> Option<&Condition> {
        self.conditions.as_ref().and_then(|conditions| conditions.unmet(content))
    }

    fn look_into(&self, content: &CallContent<'_>, verified: &Verified) -> (Overlay, EventKey) {
        let overlay = overlay(&self.mapping, self.pass_through, &self.fixed, content);
        let key = event_key(self.idempotency_from.as_ref(), self.verification.as_ref(), verified, content);
        (overlay, key)
    }

    /// Takes the parameters in the body, which must be an object or a form unless it is mapped or does not count.
    fn parameters(&self, payload: Payload<'_>) -> Result<BodyParameters, BodyError> {
        if takes_body(&self.mapping) || self.pass_through == PassThrough::None {
            Ok(BodyParameters::from_mapped(payload))
        } else {
            BodyParameters::from_payload(payload)
        }
    }
}
