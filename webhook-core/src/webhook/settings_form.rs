//! Parses settings that people send: a JSON merge patch (RFC 7396). Every problem names its field.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::channel::Channel;
use super::settings::bounds::{self, LABEL_CHARACTERS, RECIPIENTS};
use super::settings::{
    Concurrency, Email, EventKind, Notifications, RateLimit, Recipients, Slack, WebhookSettings,
};
use crate::retry::RetryPolicy;
use crate::sender::SenderSettings;
use crate::setting::{SettingCode, SettingProblem, SettingsForm};
use crate::token::mask_tokens;

/// Upper bound on an email address, in bytes (RFC 5321 section 4.5.3.1.3, without the angle brackets).
const ADDRESS_BYTES: usize = 254;

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
    /// All problems at once, each with its field: unknown fields, wrong types, numbers out of range.
    pub fn patched(&self, patch: &Value) -> Result<Self, Vec<SettingProblem>> {
        let Value::Object(named) = patch else {
            return Err(vec![SettingProblem::new(
                "",
                SettingCode::WrongType,
                "an object of settings is expected",
            )]);
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
        if problems.is_empty() { Ok(patched) } else { Err(problems) }
    }

    /// Returns these settings as they are to be stored, if all are within their bounds.
    ///
    /// # Errors
    /// All problems at once, as for [`patched`](Self::patched).
    pub fn validated(&self) -> Result<Self, Vec<SettingProblem>> {
        let (read, mut problems) = read(serde_json::to_value(self).unwrap_or_default());
        // JSON has no such numbers, so they would read back as unset.
        let numbers = [("retries.factor", self.retries.factor), ("retries.jitter", self.retries.jitter)];
        for (field, _) in numbers.into_iter().filter(|(_, number)| !number.is_finite()) {
            problems.push(SettingProblem::new(field, SettingCode::OutOfRange, "a finite number is expected"));
        }
        if problems.is_empty() { Ok(read) } else { Err(problems) }
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

fn read_notifications(value: Value, problems: &mut Vec<SettingProblem>) -> Notifications {
    let mut form = SettingsForm::new("notifications.", value, problems);
    let email = form.inner("email");
    let slack = form.inner("slack");
    // A channel that is `null` is none.
    let others: Vec<(Channel, Value)> = form.named();
    form.refuse_the_rest();
    Notifications {
        others: others
            .into_iter()
            .map(|(name, value)| (name, read_recipients(name, value, problems)))
            .collect(),
        email: email.map(|value| {
            let mut form = SettingsForm::new("notifications.email.", value, problems);
            let recipients: Vec<String> = form.take("recipients", "a list of addresses").unwrap_or_default();
            let on = read_events(&mut form);
            check_number_of(&recipients, "addresses", &mut form);
            for (index, recipient) in recipients.iter().enumerate().filter(|(_, it)| !is_address(it)) {
                let shown = recipient.escape_default();
                let message = format!("\"{shown}\" is not an address such as someone@example.com");
                form.problem(&format!("recipients[{index}]"), SettingCode::Invalid, message);
            }
            form.refuse_the_rest();
            Email { recipients, on }
        }),
        slack: slack.map(|value| {
            let mut form = SettingsForm::new("notifications.slack.", value, problems);
            let channel: String = form.take("channel", "a channel name").unwrap_or_default();
            let on = read_events(&mut form);
            let size = channel.trim().chars().count();
            if size == 0 || size > bounds::SLACK_CHANNEL_CHARACTERS || channel.chars().any(char::is_control) {
                form.problem(
                    "channel",
                    SettingCode::Invalid,
                    "a channel such as #reports is needed".to_owned(),
                );
            }
            form.refuse_the_rest();
            Slack { channel, on }
        }),
    }
}

/// Takes the events that one channel tells of, without repetitions.
fn read_events(form: &mut SettingsForm<'_>) -> Vec<EventKind> {
    let mut events: Vec<EventKind> = form.take("on", "a list of success and failure").unwrap_or_default();
    events.sort_unstable();
    events.dedup();
    if events.is_empty() {
        form.problem("on", SettingCode::Invalid, "at least one of success and failure is needed".to_owned());
    }
    events
}

/// Reports a list of recipients that is empty, too long, or names one twice.
fn check_number_of(recipients: &[String], what: &str, form: &mut SettingsForm<'_>) {
    if recipients.is_empty() || recipients.len() > RECIPIENTS {
        let message = format!("1 to {RECIPIENTS} {what} are needed");
        form.problem("recipients", SettingCode::OutOfRange, message);
    }
    if let Some(twice) = first_repeated(recipients) {
        form.problem("recipients", SettingCode::Invalid, format!("{twice:?} is named twice"));
    }
}

/// Reads the recipients of a channel of the host's own. Its notifier checks their form.
fn read_recipients(channel: Channel, value: Value, problems: &mut Vec<SettingProblem>) -> Recipients {
    let mut form = SettingsForm::new(format!("notifications.{channel}."), value, problems);
    let recipients: Vec<String> = form.take("recipients", "a list of recipients").unwrap_or_default();
    let on = read_events(&mut form);
    check_number_of(&recipients, "recipients", &mut form);
    for (index, recipient) in recipients.iter().enumerate() {
        let fits = !recipient.trim().is_empty() && recipient.len() <= ADDRESS_BYTES;
        if !fits || recipient.chars().any(char::is_control) {
            let message = format!("1 to {ADDRESS_BYTES} bytes without control characters are expected");
            form.problem(&format!("recipients[{index}]"), SettingCode::Invalid, message);
        }
    }
    form.refuse_the_rest();
    Recipients { recipients, on }
}

/// Checks the minimum that every address must fulfil, whatever carries the mail; a notifier may require more.
///
/// Blanks and control characters never pass, so no recipient can add a mail header.
fn is_address(text: &str) -> bool {
    let parts = text.rsplit_once('@').filter(|(local, domain)| !local.is_empty() && !domain.is_empty());
    let visible = !text.chars().any(|character| character.is_control() || character.is_whitespace());
    parts.is_some() && visible && text.len() <= ADDRESS_BYTES
}

fn first_repeated(items: &[String]) -> Option<&String> {
    items.iter().enumerate().find(|(index, item)| items[..*index].contains(item)).map(|(_, item)| item)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::super::OnOverlap;
    use super::*;

    fn fields(patch: Value) -> Vec<String> {
        let problems = WebhookSettings::default().patched(&patch).unwrap_err();
        problems.into_iter().map(|problem| problem.field).collect()
    }

    #[test]
    fn an_empty_patch_changes_nothing_and_the_wire_form_reads_back() {
        let settings = WebhookSettings::default();
        assert_eq!(settings.patched(&json!({})).unwrap(), settings);
        let wire = serde_json::to_value(&settings).unwrap();
        assert_eq!(settings.patched(&wire).unwrap(), settings);
        assert_eq!(serde_json::from_value::<WebhookSettings>(wire).unwrap(), settings);
    }

    #[test]
    fn the_wire_form_is_the_documented_one() {
        let wire = serde_json::to_value(WebhookSettings::default()).unwrap();
        let expected = json!({
            "label": null, "enabled": true, "allow_get": true, "strict": false, "timeout_s": null,
            "retries": {"max_attempts": 1, "base_s": 10, "factor": 2.0, "cap_s": 600, "jitter": 0.2},
            "concurrency": {"max": null, "on_overlap": "queue"}, "queue_limit": null, "rate_limit": null,
            "retention_days": null, "notifications": {"email": null, "slack": null},
            "verification": null, "idempotency_from": null, "allowed_networks": null, "conditions": null, "mapping": [],
            "pass_through": "all", "fixed": {}, "answer": null,
        });
        assert_eq!(wire, expected);
    }

    #[test]
    fn nested_objects_merge_and_null_restores_the_default() {
        let settings = WebhookSettings::default();
        let settings = settings.patched(&json!({"retries": {"max_attempts": 4}, "timeout_s": 1.5})).unwrap();
        let settings = settings.patched(&json!({"retries": {"base_s": 3}})).unwrap();
        assert_eq!(settings.retries.max_attempts, 4);
        assert_eq!(settings.retries.base, Duration::from_secs(3));
        assert_eq!(settings.timeout, Some(Duration::from_millis(1500)));
        let settings = settings.patched(&json!({"retries": null, "timeout_s": null})).unwrap();
        assert_eq!(settings, WebhookSettings::default());
    }

    #[test]
    fn every_problem_is_named_at_once() {
        let fields = fields(json!({
            "colour": "red", "enabled": "yes", "timeout_s": 0, "queue_limit": -1, "label": "x".repeat(201),
            "retries": {"max_attempts": 0, "jitter": 2, "speed": 1}, "concurrency": {"on_overlap": "explode"},
            "rate_limit": {"burst": 1}, "notifications": {"email": {"recipients": [], "on": []}, "Teams": {}},
        }));
        let expected = [
            "enabled",
            "timeout_s",
            "queue_limit",
            "colour",
            "label",
            "retries.max_attempts",
            "retries.jitter",
            "retries.speed",
            "concurrency.on_overlap",
            "rate_limit.per_minute",
            "notifications.Teams",
            "notifications.email.on",
            "notifications.email.recipients",
        ];
        assert_eq!(fields, expected);
    }

    #[test]
    fn an_unknown_name_is_a_problem_also_where_it_looks_like_a_place_or_holds_a_token() {
        let token = crate::token::Token::generate();
        for (name, field) in [
            ("retries.max_attempts", "retries.max_attempts"),
            ("notifications.email", "notifications.email"),
            ("label[0]", "label[0]"),
            (".", "."),
            ("", ""),
            (token.expose(), "whk_***"),
        ] {
            assert_eq!(fields(json!({name: 5, "strict": true})), [field], "{name}");
            assert_eq!(fields(json!({name: null})), [field], "{name}");
        }
    }

    #[test]
    fn an_unknown_name_is_a_problem_also_with_null_and_within_other_settings() {
        let patch = json!({
            "time_out_s": null, "label": null, "retries": {"tries": null, "jitter": null},
            "concurrency": {"maximum": null}, "rate_limit": {"per_minute": 5, "per_hour": null},
            "notifications": {"Teams": null, "email": null, "slack": {"channel": "#a", "on": ["failure"], "to": null}},
        });
        let expected = [
            "time_out_s",
            "retries.tries",
            "concurrency.maximum",
            "rate_limit.per_hour",
            "notifications.Teams",
            "notifications.slack.to",
        ];
        assert_eq!(fields(patch), expected);
    }

    #[test]
    fn a_stored_value_out_of_bounds_stays_and_blocks_no_other_change() {
        let stored = WebhookSettings {
            label: Some("x".repeat(300)),
            timeout: Some(Duration::from_secs(45 * 86_400)),
            rate_limit: Some(RateLimit::new(0, 10)),
            notifications: Notifications {
                others: Default::default(),
                email: Some(Email::new(vec!["no".to_owned()], Vec::new())),
                slack: None,
            },
            ..WebhookSettings::default()
        };
        let disabled = stored.patched(&json!({"enabled": false})).unwrap();
        assert_eq!(disabled, WebhookSettings { enabled: false, ..stored.clone() });
        let named = |patch| {
            let problems = stored.patched(&patch).unwrap_err();
            problems.into_iter().map(|problem| problem.field).collect::<Vec<_>>()
        };
        assert_eq!(named(json!({"timeout_s": 46 * 86_400, "enabled": false})), ["timeout_s"]);
        assert_eq!(named(json!({"rate_limit": {"burst": 5}})), ["rate_limit.per_minute"]);
        assert_eq!(stored.patched(&json!({"timeout_s": null})).unwrap().timeout, None);
    }

    #[test]
    fn every_setting_can_be_patched() {
        let all = json!({
            "label": "CI", "enabled": false, "allow_get": false, "strict": true, "timeout_s": 5,
            "retries": {"max_attempts": 3, "base_s": 1, "factor": 3.0, "cap_s": 9, "jitter": 0.5},
            "concurrency": {"max": 2, "on_overlap": "skip"}, "queue_limit": 7,
            "rate_limit": {"per_minute": 5, "burst": 6}, "retention_days": 8,
            "notifications": {
                "email": {"recipients": ["a@example.com"], "on": ["failure"]},
                "slack": {"channel": "#a", "on": ["success"]},
            },
            "verification": {"preset": "github"}, "idempotency_from": {"from": "header", "name": "X-Id"},
            "allowed_networks": ["192.0.2.0/24"],
            "conditions": {"all": [{"from": "header", "name": "X-GitHub-Event", "op": "equals", "value": "push"}]},
            "mapping": [{"parameter": "region", "from": "body", "pointer": "/region", "default": null}],
            "pass_through": "declared", "fixed": {"currency": "EUR"}, "answer": {"status": 200},
        });
        let patched = WebhookSettings::default().patched(&all).unwrap();
        assert_eq!(serde_json::to_value(&patched).unwrap(), all);
        assert_eq!(patched.validated().unwrap(), patched);
    }

    #[test]
    fn settings_made_in_code_are_held_to_the_same_bounds() {
        let mut settings = WebhookSettings {
            timeout: Some(Duration::from_secs(45 * 86_400)),
            rate_limit: Some(RateLimit::new(0, 10)),
            concurrency: Concurrency::new(Some(0), OnOverlap::Queue),
            notifications: Notifications {
                others: Default::default(),
                email: Some(Email::new(vec!["a@b.c\r\nBcc: x@y.z".to_owned()], vec![EventKind::Failure])),
                slack: None,
            },
            ..WebhookSettings::default()
        };
        settings.retries.max_attempts = 0;
        settings.retries.factor = f64::NAN;
        let problems = settings.validated().unwrap_err();
        let fields: Vec<_> = problems.iter().map(|problem| problem.field.as_str()).collect();
        let expected = [
            "timeout_s",
            "retries.max_attempts",
            "concurrency.max",
            "rate_limit.per_minute",
            "notifications.email.recipients[0]",
            "retries.factor",
        ];
        assert_eq!(fields, expected);
        assert!(WebhookSettings::default().validated().is_ok());
    }

    #[test]
    fn notifications_name_recipients_by_event() {
        let settings = WebhookSettings::default()
            .patched(&json!({"notifications": {
                "email": {"recipients": ["a@example.com", "b@example.com"], "on": ["failure"]},
                "slack": {"channel": "#ops", "on": ["success", "failure"]},
            }}))
            .unwrap();
        assert_eq!(settings.notifications.recipients(EventKind::Failure).count(), 3);
        assert_eq!(settings.notifications.recipients(EventKind::Success).count(), 1);
        let settings = settings.patched(&json!({"notifications": {"email": null}})).unwrap();
        assert!(settings.notifications.email.is_none() && settings.notifications.slack.is_some());
    }

    #[test]
    fn a_recipient_must_be_an_address_and_can_add_no_header() {
        let long = format!("{}@example.com", "a".repeat(250));
        for bad in
            ["nomail", "@example.com", "a@", "a b@c.d", "a@b.c\r\nBcc: x@y.z", "a@b.c\n", long.as_str()]
        {
            let email = json!({"recipients": ["good@example.com", bad], "on": ["failure"]});
            let found = fields(json!({"notifications": {"email": email}}));
            assert_eq!(found, ["notifications.email.recipients[1]"], "{bad:?}");
        }
        let slack = json!({"channel": "#a\r\nb", "on": ["failure"]});
        assert_eq!(fields(json!({"notifications": {"slack": slack}})), ["notifications.slack.channel"]);
    }

    #[test]
    fn a_text_with_a_token_is_refused_and_not_repeated() {
        let token = crate::token::Token::generate();
        let url = format!("https://example.com/api/v1/report/sales/webhook?token={}", token.expose());
        let patch = json!({
            "label": url, token.expose(): 1,
            "notifications": {
                "email": {"recipients": ["a@example.com", format!("{}@example.com", token.expose())], "on": ["failure"]},
                "slack": {"channel": token.expose(), "on": ["failure"]},
            },
        });
        let problems = WebhookSettings::default().patched(&patch).unwrap_err();
        let refused = problems.iter().filter(|problem| problem.code == SettingCode::ContainsToken);
        let refused: Vec<_> = refused.map(|problem| problem.field.as_str()).collect();
        let expected = ["label", "notifications.email.recipients[1]", "notifications.slack.channel"];
        assert_eq!(refused, expected);
        assert!(!format!("{problems:?}").contains(token.expose()), "{problems:?}");
        let settings = WebhookSettings { label: Some(url), ..WebhookSettings::default() };
        assert_eq!(settings.validated().unwrap_err()[0].field, "label");
        assert!(WebhookSettings::default().patched(&json!({"label": "whk_ and no token"})).is_ok());
    }

    #[test]
    fn a_rule_for_overlap_implies_a_bound() {
        let settings = WebhookSettings::default();
        assert_eq!(settings.concurrency.bound(), None);
        let settings = settings.patched(&json!({"concurrency": {"on_overlap": "skip"}})).unwrap();
        assert_eq!(settings.concurrency, Concurrency::new(None, OnOverlap::Skip));
        assert_eq!(settings.concurrency.bound(), Some(1));
    }

    #[test]
    fn a_setting_with_several_forms_is_replaced_and_a_conflict_is_found_from_either_side() {
        let settings = WebhookSettings::default();
        let scheme = json!({"scheme": "shared-secret", "header": "X-Api-Key"});
        let settings = settings.patched(&json!({"verification": scheme})).unwrap();
        let settings = settings.patched(&json!({"verification": {"preset": "github"}})).unwrap();
        let mapping = json!([{"parameter": "region", "from": "header", "name": "X-Api-Key"}]);
        let mapped = settings.patched(&json!({"mapping": mapping, "fixed": {"a": 1, "b": 2}})).unwrap();
        let named = |patch| {
            let problems = mapped.patched(&patch).unwrap_err();
            problems.into_iter().map(|problem| problem.field).collect::<Vec<_>>()
        };
        assert_eq!(named(json!({"verification": scheme})), ["mapping[0].name"]);
        assert_eq!(named(json!({"fixed": {"region": "EMEA"}})), ["mapping[0].parameter"]);
        let fixed = mapped.patched(&json!({"fixed": {"a": null}})).unwrap().sender.fixed;
        assert_eq!(serde_json::to_value(fixed).unwrap(), json!({"b": 2}));
    }

    #[test]
    fn only_an_object_is_a_patch() {
        assert_eq!(fields(json!([1])), [""]);
        assert_eq!(fields(json!({"retries": 5})), ["retries"]);
    }
}
