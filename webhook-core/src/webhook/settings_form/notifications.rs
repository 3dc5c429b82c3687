//! Parses the settings of notifications.

use serde_json::Value;

use crate::setting::{SettingCode, SettingProblem, SettingsForm};
use crate::webhook::channel::Channel;
use crate::webhook::settings::bounds::{self, RECIPIENTS};
use crate::webhook::settings::{Email, EventKind, Notifications, Recipients, Slack};

/// Upper bound on an email address, in bytes (RFC 5321 section 4.5.3.1.3, without the angle brackets).
const ADDRESS_BYTES: usize = 254;

pub(super) fn read_notifications(value: Value, problems: &mut Vec<SettingProblem>) -> Notifications {
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
