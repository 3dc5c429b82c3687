//! Tests of what messages contain, and what they must never contain.

use std::sync::Arc;
use std::time::SystemTime;

use serde_json::json;
use webhook_core::id::{DeliveryId, RunId, WebhookId};
use webhook_core::parameters::{EffectiveParameter, EffectiveParameters, Source};
use webhook_core::run::{Caller, Ending, ErrorKind, RunError, RunParameters};
use webhook_core::token::{TokenKey, TokenKeys};
use webhook_core::webhook::Channel;

use super::*;

pub(crate) const CANARY: &str = "canary-5f1c2a";
const HOSTILE: &str =
    "</table><script>alert(1)</script> <!channel> <https://evil.example|click> & \r\nBcc: x@y.z";

/// Returns news of a failed run in which every text from others is hostile.
pub(crate) fn hostile(channel: Channel, recipient: &str) -> Notification {
    let start = SystemTime::now();
    let id = RunId::generate(start);
    let mut parameters = EffectiveParameters::new();
    parameters.insert("region", EffectiveParameter::new(HOSTILE, Source::Query));
    parameters.insert(
        "x\n\nYour session:\u{2028}*now*",
        EffectiveParameter::new(":tada: _a_ `b` ~c~", Source::Query),
    );
    parameters.insert("rows", EffectiveParameter::new(json!([1, 2]), Source::Body));
    parameters.insert("password", EffectiveParameter::new(CANARY, Source::Body).secret());
    let keys = TokenKeys::new(TokenKey::generate());
    let parameters = RunParameters::seal(parameters, Some(&keys), id).unwrap();
    let workflow = "report/sales".parse().unwrap();
    let run = Run::new(id, workflow, WebhookId::generate(start), parameters, 3, Caller::default(), start);
    let error = RunError::new(ErrorKind::Fatal, HOSTILE);
    let run = run.claimed(1, 5, start).unwrap();
    let run = run.ended(Ending::failed(error), start + Duration::from_secs(75)).unwrap();
    let delivery = DeliveryId::generate(start);
    Notification::new(
        delivery,
        channel,
        recipient,
        EventKind::Failure,
        format!("Sales {HOSTILE}"),
        Arc::new(run),
    )
    .with_run_url(format!("https://app.example.com/panel#/report/sales/runs/{id}"))
}

fn render(template: Template) -> String {
    let news = hostile(Channel::EMAIL, "a@example.com");
    let text = Messages::new().unwrap().render(template, &news).unwrap();
    assert!(!text.contains(CANARY), "{text}");
    text
}

#[test]
fn a_subject_is_one_bounded_line() {
    let subject = render(Template::Subject);
    assert!(subject.starts_with("Sales "), "{subject}");
    assert!(!subject.contains(['\r', '\n']), "{subject}");
    assert!(subject.chars().count() <= SUBJECT_CHARACTERS);
}

#[test]
fn a_text_says_how_the_run_ended() {
    let text = render(Template::Text);
    for part in
        ["failed after 1 min 15 s", "report/sales", "Error:     fatal", "rows = [1,2]", "password = ***"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.contains("https://app.example.com/panel#/report/sales/runs/"));
    let parameter = text.lines().find(|line| line.trim_start().starts_with("region = ")).unwrap();
    assert!(parameter.contains("Bcc"), "a value stays in its line: {text}");
}

#[test]
fn the_name_of_a_parameter_stays_in_its_line() {
    for template in [Template::Text, Template::Html, Template::Slack] {
        let text = render(template);
        let line = text.lines().find(|line| line.contains("Your session")).unwrap();
        assert!(line.contains("x  Your session: ") && !line.contains('\u{2028}'), "{line:?}");
    }
}

#[test]
fn slack_reads_no_markup_in_what_others_wrote() {
    let text = render(Template::Slack);
    let line = text.lines().find(|line| line.contains("Your session")).unwrap();
    let name = "x  Your session: \u{2060}*\u{2060}now\u{2060}*\u{2060}";
    let value = "\u{2060}:\u{2060}tada: \u{2060}_\u{2060}a\u{2060}_\u{2060} \u{2060}`\u{2060}b\u{2060}`\u{2060} \u{2060}~\u{2060}c\u{2060}~\u{2060}";
    assert_eq!(line, format!("• {name} = {value}"));
    let harmless = "daily_sales at 10:30:15 - a: b, c:d *** e ***";
    assert_eq!(plain_for_slack(harmless), harmless);
}

#[test]
fn html_shows_markup_as_text() {
    let html = render(Template::Html);
    assert!(!html.contains("<script>") && html.contains("&lt;script&gt;"), "{html}");
    assert_eq!(html.matches("</table>").count(), 1, "{html}");
    assert!(
        html.contains("href=\"https:&#x2f;&#x2f;app.example.com")
            || html.contains("href=\"https://app.example.com")
    );
}

#[test]
fn slack_sees_no_mention_and_no_link_of_others() {
    let text = render(Template::Slack);
    assert!(!text.contains(['<', '>']), "{text}");
    assert!(text.contains("&lt;!channel&gt;") && text.contains("&amp;"), "{text}");
    assert!(!text.contains("&amp;lt;"), "it is escaped once: {text}");
}

#[test]
fn a_template_of_the_host_takes_the_place_of_ours() {
    let news = hostile(Channel::SLACK, "#ops");
    let own = "{{ event }} {{ state }} {{ duration_s }} {{ attempt }}/{{ max_attempts }} {{ summary }}.";
    let messages = Messages::new().unwrap().with_template(Template::Text, own).unwrap();
    assert_eq!(messages.render(Template::Text, &news).unwrap(), "failure failed 75.0 1/3 .");
    assert!(messages.render(Template::Html, &news).unwrap().contains("<h1"));
    for wrong in ["{% if %}", "{{ trigger_url }}"] {
        assert!(Messages::new().unwrap().with_template(Template::Text, wrong).is_err(), "{wrong}");
    }
}

#[test]
fn durations_are_for_people() {
    for (millis, text) in
        [(40, "0.0 s"), (2_340, "2.3 s"), (59_000, "59 s"), (60_000, "1 min 0 s"), (7_322_000, "2 h 2 min")]
    {
        assert_eq!(for_people(Duration::from_millis(millis)), text);
    }
}
