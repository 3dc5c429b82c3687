//! Parses settings that people send: a JSON merge patch (RFC 7396). Every problem names its field.

mod notifications;

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::settings::bounds::{self, LABEL_CHARACTERS};
use super::settings::{Concurrency, RateLimit, WebhookSettings};
use crate::retry::RetryPolicy;
use crate::sender::SenderSettings;
use crate::setting::{InvalidSettings, SettingCode, SettingProblem, SettingsForm};
use crate::token::mask_tokens;
use notifications::read_notifications;

impl WebhookSettings {
    /// Returns these settings with a JSON merge patch (RFC 7396) applied: absent means unchanged, `null`
    /// means default, nested objects merge. The settings of a sender that have several forms (`verification`,
    /// `idempotency_from`, `conditions`) are replaced as a whole.
    ///
    /// Only the settings that the patch names are checked. A stored value that is out of bounds stays as it
    /// is, and does not prevent disabling a webhook.
    /// The service, not this function, checks that there is a notifier for each requested channel.
    ///
    /// # Errors
    /// [`InvalidSettings`] with all problems at once, each with its field: unknown fields, wrong types, numbers out of range.
    pub fn patched(&self, patch: &Value) -> Result<Self, InvalidSettings> {
        let Value::Object(named) = patch else {
            let message = "an object of settings is expected";
            let problem = SettingProblem::new("", SettingCode::WrongType, message);
            return Err(InvalidSettings::new(vec![problem]));
        };
        let mut merged = serde_json::to_value(self).unwrap_or_default();
        if let Value::Object(merged) = &mut merged {
            for name in SenderSettings::REPLACED.into_iter().filter(|name| named.contains_key(*name)) {
                merged.remove(name);
            }
        }
        merge_patch(&mut merged, patch);
        let (read, mut problems) = read(merged);
        let setting = |problem: &SettingProblem| problem.field.split(['.', '[']).next().map(str::to_owned);
        // An unknown name comes from the patch, whatever it looks like: stored settings have none.
        let is_named =
            |problem: &SettingProblem| setting(problem).is_some_and(|name| named.contains_key(&name));
        problems.retain(|problem| problem.code == SettingCode::Unknown || is_named(problem));
        let mut patched = self.clone();
        for name in named.keys() {
            patched.copy_setting(name, &read);
        }
        // A conflict may be reported for the setting that the patch does not name.
        if SenderSettings::NAMES.iter().any(|name| named.contains_key(*name)) {
            let conflicts = patched.sender.conflicts();
            problems.extend(
                conflicts.into_iter().filter(|conflict| !problems.contains(conflict)).collect::<Vec<_>>(),
            );
        }
        if problems.is_empty() { Ok(patched) } else { Err(InvalidSettings::new(problems)) }
    }

    /// Returns these settings as they are to be stored, if all are within their bounds.
    ///
    /// # Errors
    /// All problems at once, as for [`patched`](Self::patched).
    pub fn validated(&self) -> Result<Self, InvalidSettings> {
        let (read, mut problems) = read(serde_json::to_value(self).unwrap_or_default());
        // JSON has no such numbers, so they would read back as unset.
        let numbers = [("retries.factor", self.retries.factor), ("retries.jitter", self.retries.jitter)];
        for (field, _) in numbers.into_iter().filter(|(_, number)| !number.is_finite()) {
            problems.push(SettingProblem::new(field, SettingCode::OutOfRange, "a finite number is expected"));
        }
        if problems.is_empty() { Ok(read) } else { Err(InvalidSettings::new(problems)) }
    }

    fn copy_setting(&mut self, name: &str, from: &Self) {
        match name {
            "label" => self.label.clone_from(&from.label),
            "enabled" => self.enabled = from.enabled,
            "allow_get" => self.allow_get = from.allow_get,
            "strict" => self.strict = from.strict,
            "timeout_s" => self.timeout = from.timeout,
            "retries" => self.retries = from.retries,
            "concurrency" => self.concurrency = from.concurrency,
            "queue_limit" => self.queue_limit = from.queue_limit,
            "rate_limit" => self.rate_limit = from.rate_limit,
            "retention_days" => self.retention_days = from.retention_days,
            "keep_bodies_s" => self.keep_bodies = from.keep_bodies,
            "notifications" => self.notifications.clone_from(&from.notifications),
            name => self.sender.copy_setting(name, &from.sender),
        }
    }
}

/// Applies a patch (RFC 7396, section 2).
///
/// A removed member becomes `null`, which reads as unset. So the name of an unknown member is still found.
fn merge_patch(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return };
    for (name, value) in patch {
        if value.is_null() {
            target.insert(name.clone(), Value::Null);
        } else {
            merge_patch(target.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

/// Parses settings in their wire form, and collects all problems. An invalid setting keeps its default.
fn read(merged: Value) -> (WebhookSettings, Vec<SettingProblem>) {
    let mut problems = Vec::new();
    find_tokens(&merged, "", &mut problems);
    let mut form = SettingsForm::new("", merged, &mut problems);
    let mut settings = WebhookSettings {
        label: form.optional("label", "a text"),
        enabled: form.take("enabled", "true or false").unwrap_or(true),
        allow_get: form.take("allow_get", "true or false").unwrap_or(true),
        strict: form.take("strict", "true or false").unwrap_or(false),
        timeout: form.seconds("timeout_s", bounds::TIMEOUT_SECONDS),
        queue_limit: form.whole("queue_limit", bounds::QUEUE_LIMIT),
        retention_days: form.whole("retention_days", bounds::RETENTION_DAYS),
        keep_bodies: form.seconds("keep_bodies_s", bounds::KEEP_SECONDS),
        sender: SenderSettings::read(&mut form),
        ..WebhookSettings::default()
    };
    let retries = form.inner("retries");
    let concurrency = form.inner("concurrency");
    let rate_limit = form.inner("rate_limit");
    let notifications = form.inner("notifications");
    form.refuse_the_rest();
    settings.label = settings.label.filter(|label| !label.trim().is_empty());
    if settings.label.as_ref().is_some_and(|label| label.chars().count() > LABEL_CHARACTERS) {
        let message = format!("at most {LABEL_CHARACTERS} characters");
        problems.push(SettingProblem::new("label", SettingCode::OutOfRange, message));
    }
    if let Some(value) = retries {
        settings.retries = read_retries(value, &mut problems);
    }
    if let Some(value) = concurrency {
        let mut form = SettingsForm::new("concurrency.", value, &mut problems);
        settings.concurrency = Concurrency {
            max: form.whole("max", bounds::CONCURRENT_RUNS),
            on_overlap: form.take("on_overlap", "queue, skip, replace or coalesce").unwrap_or_default(),
        };
        form.refuse_the_rest();
    }
    settings.rate_limit = rate_limit.map(|value| read_rate_limit(value, &mut problems));
    if let Some(value) = notifications {
        settings.notifications = read_notifications(value, &mut problems);
    }
    (settings, problems)
}

/// Reports every text that contains a token, since settings are stored and shown in the clear.
fn find_tokens(value: &Value, field: &str, problems: &mut Vec<SettingProblem>) {
    match value {
        Value::String(text) if matches!(mask_tokens(text), Cow::Owned(_)) => {
            let message = "it contains a webhook's token, which would be stored and shown in the clear";
            problems.push(SettingProblem::new(field, SettingCode::ContainsToken, message));
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                find_tokens(item, &format!("{field}[{index}]"), problems);
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                let separator = if field.is_empty() { "" } else { "." };
                find_tokens(member, &format!("{field}{separator}{name}"), problems);
            }
        }
        _ => {}
    }
}

fn read_retries(value: Value, problems: &mut Vec<SettingProblem>) -> RetryPolicy {
    let default = RetryPolicy::default();
    let mut form = SettingsForm::new("retries.", value, problems);
    let policy = RetryPolicy {
        max_attempts: form.whole("max_attempts", bounds::ATTEMPTS).unwrap_or(default.max_attempts),
        base: form.seconds("base_s", bounds::PAUSE_SECONDS).unwrap_or(default.base),
        factor: form.number("factor", bounds::FACTOR).unwrap_or(default.factor),
        cap: form.seconds("cap_s", bounds::PAUSE_SECONDS).unwrap_or(default.cap),
        jitter: form.number("jitter", bounds::JITTER).unwrap_or(default.jitter),
    };
    form.refuse_the_rest();
    policy
}

fn read_rate_limit(value: Value, problems: &mut Vec<SettingProblem>) -> RateLimit {
    let mut form = SettingsForm::new("rate_limit.", value, problems);
    let per_minute = form.whole("per_minute", bounds::CALLS);
    let burst = form.whole("burst", bounds::CALLS);
    form.refuse_the_rest();
    if per_minute.is_none() {
        let known = problems.iter().any(|problem| problem.field == "rate_limit.per_minute");
        if !known {
            let message = "a whole number of calls per minute is needed";
            problems.push(SettingProblem::new("rate_limit.per_minute", SettingCode::Invalid, message));
        }
    }
    let per_minute = per_minute.unwrap_or(1);
    RateLimit { per_minute, burst: burst.unwrap_or(per_minute) }
}

#[cfg(test)]
mod tests;
