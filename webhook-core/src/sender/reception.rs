//! From the bytes of a call to the content of its run: verification, handshake, conditions and mapping, in this order.

use std::convert::Infallible;
use std::ops::ControlFlow::{self, Break, Continue};
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
use crate::verification::{Preset, Refusal, Verified, verify, withhold_client_state};

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

/// A step on the way of a call, and its outcome.
enum ReceptionStep<'a> {
    /// The verdict on the signature, where one is verified.
    Verdict(&'a Result<Verified, Refusal>),
    /// The body cannot be read, and counts as an empty one from here on.
    Unreadable(&'a BodyError),
    /// The body was read.
    Read(&'a CallContent<'a>),
    /// The call is a handshake.
    Handshake(HandshakeAnswer),
    /// This condition is not met.
    Unmet(&'a Condition),
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
        let end = self.walk(call, secrets, limits, now, |step| match step {
            ReceptionStep::Verdict(Err(refusal)) => Break(Err(refusal.clone().into())),
            ReceptionStep::Unreadable(error) => Break(Err(error.clone().into())),
            ReceptionStep::Handshake(answer) => Break(Ok(Reception::Handshake(answer))),
            ReceptionStep::Unmet(condition) => Break(Ok(Reception::Ignored(condition.clone()))),
            ReceptionStep::Verdict(Ok(_)) | ReceptionStep::Read(_) => Continue(()),
        });
        match end {
            Break(end) => end,
            Continue(content) => Ok(Reception::Run(content?)),
        }
    }

    /// Takes the content of a run from a call that was received before: it is verified, and no condition is tested again.
    pub(crate) fn content_again(
        &self,
        call: &ReceivedCall<'_>,
        limits: &ParameterLimits,
    ) -> Result<RunContent, BodyError> {
        let payload = self.read_payload(call, limits)?;
        let content = CallContent::new(call.raw, call.query, &payload);
        let overlay = overlay(&self.mapping, self.pass_through, &self.fixed, &content);
        // Each replay is a run of its own.
        Ok(RunContent { body: self.parameters(payload)?, overlay, key: EventKey::Absent })
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
        let (mut verification, mut handshake, mut unmet, mut missing) = (None, false, None, Vec::new());
        let Continue(content) = self.walk::<Infallible>(call, secrets, limits, now, |step| {
            match step {
                ReceptionStep::Verdict(verdict) => verification = Some(verdict.clone()),
                ReceptionStep::Unreadable(_) => {}
                ReceptionStep::Read(content) => missing = self.missing_in(content),
                ReceptionStep::Handshake(_) => handshake = true,
                ReceptionStep::Unmet(condition) => unmet = Some(condition.clone()),
            }
            Continue(())
        });
        Preview { verification, handshake, unmet, missing, content }
    }

    /// Takes a call through the settings, and shows each step to `see`, which ends the walk or lets it go on.
    /// Nothing of a call is looked at before `see` was shown the verdict on its signature.
    fn walk<T>(
        &self,
        call: &ReceivedCall<'_>,
        secrets: &[Secret],
        limits: &ParameterLimits,
        now: SystemTime,
        mut see: impl FnMut(ReceptionStep<'_>) -> ControlFlow<T>,
    ) -> ControlFlow<T, Result<RunContent, BodyError>> {
        let verification =
            self.verification.as_ref().map(|verification| verify(verification, call.raw, secrets, now));
        if let Some(verdict) = &verification {
            see(ReceptionStep::Verdict(verdict))?;
        }
        let verified = verification.and_then(Result::ok).unwrap_or_default();
        let (payload, flaw) = match self.read_payload(call, limits) {
            Ok(payload) => (payload, None),
            Err(error) => {
                see(ReceptionStep::Unreadable(&error))?;
                (Payload::empty(), Some(error))
            }
        };
        let content = CallContent::new(call.raw, call.query, &payload);
        see(ReceptionStep::Read(&content))?;
        if let Some(answer) = self.preset().and_then(|preset| signed_handshake(preset, &content)) {
            see(ReceptionStep::Handshake(answer))?;
        }
        if let Some(unmet) = self.conditions.as_ref().and_then(|conditions| conditions.unmet(&content)) {
            see(ReceptionStep::Unmet(unmet))?;
        }
        let overlay = overlay(&self.mapping, self.pass_through, &self.fixed, &content);
        let key = event_key(self.idempotency_from.as_ref(), self.verification.as_ref(), &verified, &content);
        let body = flaw.map_or_else(|| self.parameters(payload), Err);
        Continue(body.map(|body| RunContent { body, overlay, key }))
    }

    fn read_payload<'a>(
        &self,
        call: &ReceivedCall<'a>,
        limits: &ParameterLimits,
    ) -> Result<Payload<'a>, BodyError> {
        let payload_field = self.preset().is_some_and(Preset::has_payload_field);
        let forms = PayloadForms { payload_field, multipart: true };
        let mut payload = parse_payload(call.content_type, call.raw.body, limits, forms)?;
        if self.has_secret_in_body() {
            payload.change_json(withhold_client_state);
        }
        Ok(payload)
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
