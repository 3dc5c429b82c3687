//! Senders of a webhook's calls: their secrets, and samples of their calls.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Management;
use super::error::ManagementError;
use crate::error::Resource;
use crate::executor::Workflow;
use crate::id::{SecretId, WebhookId};
use crate::mapping::{Condition, EventKey};
use crate::parameters::{
    BodyParameters, EffectiveParameters, Overlay, ParameterProblem, ParameterWarning, PassThrough,
    QueryParameters, merge_over, parse_body, parse_query,
};
use crate::secret::{InvalidSecret, SealedSecret, Secret, SecretForm};
use crate::sender::{Preview, ReceivedCall, RunContent};
use crate::service::intake::{self, Method, SentHead, TriggerCall, TriggerError};
use crate::setting::{SettingCode, SettingProblem};
use crate::verification::{Refusal, Verification, Verified};
use crate::webhook::{Webhook, WebhookSettings};

/// Field of a request that names the secret.
const SECRET: &str = "secret";

/// A secret that was stored.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AddedSecret {
    /// The stored record.
    pub record: SealedSecret,
    /// The secret, if it was generated: this is the only time it can be seen.
    pub generated: Option<Secret>,
}

/// Sample of a call, as a person gives it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SampleCall {
    /// Method of the call.
    pub method: Method,
    /// Query, without the question mark. The token may be left out.
    pub query: String,
    /// Names and values of the headers.
    pub headers: Vec<(String, String)>,
    /// Body as it was sent.
    pub body: String,
}

impl SampleCall {
    /// Creates a sample without query, headers and body.
    #[must_use]
    pub fn new(method: Method) -> Self {
        Self { method, query: String::new(), headers: Vec::new(), body: String::new() }
    }

    /// Returns the value of a header that a call has once.
    fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(given, _)| given.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Returns the bytes of the body as far as they count.
    fn sent_body(&self) -> &[u8] {
        if self.method == Method::Post { self.body.as_bytes() } else { b"" }
    }

    /// Returns the call that this is a sample of, without its query and token.
    fn call(&self, webhook: &Webhook) -> TriggerCall {
        let owned = |name| self.header(name).map(str::to_owned);
        let mut call = TriggerCall::new(webhook.workflow.clone(), self.method);
        call.content_encoding = owned("Content-Encoding");
        call.idempotency_key = owned("Idempotency-Key");
        call.has_body = !self.body.is_empty();
        call.caller.user_agent = owned("User-Agent");
        call
    }
}

/// The way of a sample through the settings of a webhook. A step that fails does not hide the next, but a handshake is the
/// last step of a call.
#[derive(Debug)]
#[non_exhaustive]
pub struct CallPreview {
    /// Verdict on the signature, or on the verify token of a handshake; absent where nothing is verified.
    pub verification: Option<Result<Verified, Refusal>>,
    /// Set if the call is a handshake, which starts no run. It is answered unless the verdict refuses it.
    pub handshake: bool,
    /// The first condition that is not met.
    pub unmet: Option<Condition>,
    /// Parameters that a run would get; none if there are problems with them.
    pub parameters: EffectiveParameters,
    /// Problems of the call, and settings that look where the sample has nothing.
    pub problems: Vec<PreviewProblem>,
    /// Warnings that the caller would get.
    pub warnings: Vec<ParameterWarning>,
}

impl CallPreview {
    fn of_handshake(verification: Option<Result<Verified, Refusal>>) -> Self {
        Self {
            verification,
            handshake: true,
            unmet: None,
            parameters: EffectiveParameters::new(),
            problems: Vec::new(),
            warnings: Vec::new(),
        }
    }
}

/// Problem of a sample.
#[derive(Debug)]
#[non_exhaustive]
pub enum PreviewProblem {
    /// A parameter cannot be used.
    Parameter(ParameterProblem),
    /// A setting looks where the sample has nothing.
    Setting(SettingProblem),
    /// The call is refused as a whole.
    Call(TriggerError),
}

impl Management<'_> {
    /// Stores a secret with which the sender signs its calls: the given one, or a new one.
    ///
    /// # Errors
    /// [`ManagementError::Settings`] for a secret that cannot be used, for a third one, and without a token key.
    pub async fn add_secret(
        &self,
        id: WebhookId,
        given: Option<&str>,
    ) -> Result<AddedSecret, ManagementError> {
        let parts = self.parts;
        let keys = parts.keys.as_ref().ok_or_else(|| {
            problem(SettingCode::NoTokenKey, "this server has no token key, so it cannot seal a secret")
        })?;
        let given = given.map(Secret::new).transpose().map_err(|error| unusable(&error))?;
        let mut generated = None;
        let webhook = self
            .change(id, None, |webhook| {
                let verification = webhook.settings.sender.verification.as_ref();
                let secret = match &given {
                    Some(secret) => secret.clone(),
                    None => generate(verification)?,
                };
                if let Some(verification) = verification {
                    verification.check_secret(&secret).map_err(|error| unusable(&error))?;
                }
                let (mut secrets, now) = (webhook.secrets.clone(), parts.now());
                secrets.add(&secret, webhook.id, keys, now).map_err(|error| unusable(&error))?;
                generated = given.is_none().then_some(secret);
                Ok(webhook.with_secrets(secrets, now))
            })
            .await?;
        let record =
            webhook.secrets.iter().last().cloned().ok_or(ManagementError::NotFound(Resource::Secret))?;
        Ok(AddedSecret { record, generated })
    }

    /// Removes a secret. Calls that are signed with it are refused from now on.
    ///
    /// # Errors
    /// [`ManagementError::NotFound`] also when the webhook has no such secret.
    pub async fn remove_secret(
        &self,
        id: WebhookId,
        secret: SecretId,
    ) -> Result<Arc<Webhook>, ManagementError> {
        let parts = self.parts;
        self.change(id, None, |webhook| {
            let mut secrets = webhook.secrets.clone();
            if secrets.remove(secret) {
                Ok(webhook.with_secrets(secrets, parts.now()))
            } else {
                Err(ManagementError::NotFound(Resource::Secret))
            }
        })
        .await
    }

    /// Returns the problem that no secret of a webhook is of use with new settings.
    pub(super) fn secret_problems(
        &self,
        webhook: &Webhook,
        settings: &WebhookSettings,
    ) -> Vec<SettingProblem> {
        let (Some(verification), Some(keys)) = (&settings.sender.verification, &self.parts.keys) else {
            return Vec::new();
        };
        let secrets = webhook.secrets.open(webhook.id, keys).unwrap_or_default();
        let checked: Vec<_> = secrets.iter().map(|secret| verification.check_secret(secret)).collect();
        match checked.first() {
            Some(Err(flaw)) if verification.needs_secret() && checked.iter().all(Result::is_err) => {
                let message = format!(
                    "no secret of the webhook has the form that this needs: {flaw}; delete the secret first"
                );
                vec![SettingProblem::new("verification", SettingCode::Invalid, message)]
            }
            _ => Vec::new(),
        }
    }

    /// Returns every value and name in a webhook's settings that its workflow can never take.
    pub(super) fn parameter_problems(
        &self,
        workflow: &Workflow,
        settings: &WebhookSettings,
    ) -> Vec<SettingProblem> {
        let (blocks, sender) = (&workflow.parameters, &settings.sender);
        let fixed = sender.fixed.iter().map(|(name, value)| (format!("fixed.{name}"), name, value));
        let rules = || sender.mapping.iter().enumerate();
        let defaults = rules().filter_map(|(index, rule)| {
            Some((format!("mapping[{index}].default"), &rule.parameter, rule.default.as_ref()?))
        });
        let mut problems = Vec::new();
        for (field, name, value) in fixed.chain(defaults) {
            if blocks.get(name).is_some_and(|block| block.secret) {
                let message = "the parameter is secret, and settings are stored and shown in the clear";
                problems.push(SettingProblem::new(field, SettingCode::Invalid, message));
                continue;
            }
            let overlay = Overlay::new(PassThrough::None, BTreeMap::from([(name.clone(), value.clone())]));
            let (query, body) = (QueryParameters::default(), BodyParameters::default());
            let limits = &self.parts.options.limits;
            let flaws = merge_over(blocks, &query, &body, &overlay, settings.strict, limits)
                .err()
                .unwrap_or_default();
            if let Some(flaw) = flaws.into_iter().find(|flaw| flaw.parameter == *name) {
                problems.push(SettingProblem::new(field, SettingCode::Invalid, flaw.message));
            }
        }
        for (index, rule) in
            rules().filter(|(_, rule)| settings.strict && blocks.get(&rule.parameter).is_none())
        {
            let message =
                format!("the workflow declares no parameter {:?}, and the webhook is strict", rule.parameter);
            problems.push(SettingProblem::new(
                format!("mapping[{index}].parameter"),
                SettingCode::Unknown,
                message,
            ));
        }
        problems
    }

    /// Shows the way of a sample through the settings of a webhook. It starts nothing and uses up no key.
    ///
    /// # Errors
    /// [`ManagementError::Trigger`] when the query cannot be read or the workflow is missing.
    pub async fn preview_call(
        &self,
        id: WebhookId,
        sample: &SampleCall,
    ) -> Result<CallPreview, ManagementError> {
        let webhook = self.get_webhook(id).await?;
        let workflow = intake::available_workflow(self.parts, &webhook).await?;
        let query = parse_query(&sample.query).map_err(TriggerError::from)?.parameters;
        let head = SentHead::new(
            self.sample_url(&webhook, &sample.query),
            sample.headers.iter().map(|(n, v)| (n, v)),
        );
        match intake::handshake(self.parts, &webhook, sample.method, &head, &query) {
            Ok(None) => {}
            Ok(Some(_)) => return Ok(CallPreview::of_handshake(None)),
            Err(refusal) => return Ok(CallPreview::of_handshake(Some(Err(refusal)))),
        }
        let preview = self.look_at(&webhook, sample, &head, &query);
        if preview.handshake {
            return Ok(CallPreview::of_handshake(preview.verification));
        }
        let call = sample.call(&webhook);
        let mut shown = CallPreview {
            verification: preview.verification,
            handshake: false,
            unmet: preview.unmet,
            parameters: EffectiveParameters::new(),
            problems: preview.missing.into_iter().map(PreviewProblem::Setting).collect(),
            warnings: Vec::new(),
        };
        let refused = intake::check_method(&call, &webhook).and(intake::check_body(
            self.parts,
            &call,
            sample.sent_body(),
        ));
        shown.problems.extend(refused.err().map(PreviewProblem::Call));
        match preview.content {
            Ok(content) => self.merge_sample(&workflow, &webhook, &query, &call, &content, &mut shown)?,
            Err(error) => shown.problems.push(PreviewProblem::Call(error.into())),
        }
        Ok(shown)
    }

    fn look_at(
        &self,
        webhook: &Webhook,
        sample: &SampleCall,
        head: &SentHead,
        query: &QueryParameters,
    ) -> Preview {
        let parts = self.parts;
        let (secrets, flaw) = match intake::secrets(parts, webhook) {
            Ok(secrets) => (secrets, None),
            Err(refusal) => (Vec::new(), Some(refusal)),
        };
        let body = sample.sent_body();
        let (content_type, limits) =
            (sample.header("Content-Type").filter(|_| !body.is_empty()), &parts.options.limits);
        let settings = &webhook.settings.sender;
        let mut preview = head.with_body(sample.method.as_str(), body, |raw| {
            settings.preview(&ReceivedCall::new(raw, query, content_type), &secrets, limits, parts.now())
        });
        if let Some(refusal) = flaw {
            preview.verification = Some(Err(refusal));
        }
        if !settings.looks_into_calls() {
            preview.content = parse_body(content_type, body, limits).map(RunContent::of_body);
        }
        preview
    }

    fn merge_sample(
        &self,
        workflow: &Workflow,
        webhook: &Webhook,
        query: &QueryParameters,
        call: &TriggerCall,
        content: &RunContent,
        shown: &mut CallPreview,
    ) -> Result<(), ManagementError> {
        if content.key == EventKey::FromCaller {
            shown.problems.extend(call.idempotency_key().err().map(PreviewProblem::Call));
        }
        match intake::effective(self.parts, workflow, webhook, query, &content.body, &content.overlay) {
            Ok(merged) => {
                shown.parameters = merged.parameters;
                shown.warnings = merged.warnings;
                shown.warnings.extend(call.ignores_body().then(intake::body_ignored));
            }
            Err(TriggerError::Parameters(problems)) => {
                shown.problems.extend(problems.into_iter().map(PreviewProblem::Parameter));
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Returns the URL of a sample, with the token if the sample lacks it and it can be opened.
    fn sample_url(&self, webhook: &Webhook, query: &str) -> zeroize::Zeroizing<String> {
        let parts = self.parts;
        let has_token = query.split('&').any(|pair| pair.starts_with("token="));
        let token =
            parts.keys.as_ref().filter(|_| !has_token).and_then(|keys| webhook.open_token(keys).ok()?);
        match token {
            Some(token) => {
                let url = parts.trigger_url(&webhook.workflow, &token);
                let separator = if query.is_empty() { "" } else { "&" };
                zeroize::Zeroizing::new(format!("{}{separator}{query}", url.expose()))
            }
            None => parts.called_url(&webhook.workflow, query),
        }
    }
}

fn generate(verification: Option<&Verification>) -> Result<Secret, ManagementError> {
    match verification.map_or(Some(SecretForm::Hex), Verification::secret_form) {
        Some(form) => Ok(Secret::generate(form)),
        None => Err(problem(
            SettingCode::Required,
            "the sender's public key is needed; only the sender has its pair",
        )),
    }
}

fn unusable(error: &InvalidSecret) -> ManagementError {
    let code = match error {
        InvalidSecret::Length { .. } | InvalidSecret::TooMany => SettingCode::OutOfRange,
        _ => SettingCode::Invalid,
    };
    problem(code, &error.to_string())
}

fn problem(code: SettingCode, message: &str) -> ManagementError {
    ManagementError::Settings(vec![SettingProblem::new(SECRET, code, message)])
}
