//! Texts of notifications: Jinja templates, each of which a host may replace.
//!
//! A template can use these names:
//!
//! | name | meaning |
//! |---|---|
//! | `title`, `workflow` | title of the workflow, and its key such as `report/daily-sales` |
//! | `event` | `success` or `failure` |
//! | `state`, `state_text` | `succeeded`, `failed` or `timed_out`, and the same in words for people |
//! | `duration`, `duration_s` | from the start of the first attempt to the end, in words and in seconds; may be none |
//! | `attempt`, `max_attempts` | numbers |
//! | `parameters` | list of `name` and `value`, a secret value as `***`; at most 50 |
//! | `parameters_left_out` | number of further parameters |
//! | `error` | `kind` and `message`, or none |
//! | `summary` | summary of the result by the executor, or none |
//! | `run_id`, `run_url` | id of the run, and the URL of its page, or none |
//!
//! The URL that starts the workflow is not among them. Names and values of parameters are one line each.
//!
//! Every value is escaped. [`Template::Html`] escapes for HTML. [`Template::Slack`] escapes `&`, `<` and `>`
//! as Slack requires, and an invisible word joiner keeps `*`, `_`, `~`, `` ` `` and `:name:` from being read
//! as markup.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Output, State, UndefinedBehavior, Value};
use serde::Serialize;
use webhook_core::error::BoxError;
use webhook_core::masking::MASK;
use webhook_core::notifier::Notification;
use webhook_core::run::{Run, RunParameter, RunState};
use webhook_core::webhook::EventKind;

/// Upper bound on a subject, in characters.
const SUBJECT_CHARACTERS: usize = 200;
/// Upper bound on the shown part of a parameter's value, in characters.
const VALUE_CHARACTERS: usize = 200;
/// Upper bound on the number of shown parameters.
const PARAMETERS: usize = 50;
const SLACK: &str = "slack";

/// Kind of template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Template {
    /// Subject of an email, and Slack's fallback text. Line ends become blanks.
    Subject,
    /// Text body of an email.
    Text,
    /// HTML body of an email.
    Html,
    /// Message in Slack, in Slack's own markup (mrkdwn).
    Slack,
}

impl Template {
    const ALL: [Self; 4] = [Self::Subject, Self::Text, Self::Html, Self::Slack];

    fn name(self) -> &'static str {
        match self {
            Self::Subject => "subject",
            Self::Text => "text",
            Self::Html => "html",
            Self::Slack => SLACK,
        }
    }

    fn source(self) -> &'static str {
        match self {
            Self::Subject => include_str!("templates/subject.txt"),
            Self::Text => include_str!("templates/body.txt"),
            Self::Html => include_str!("templates/body.html"),
            Self::Slack => include_str!("templates/slack.txt"),
        }
    }
}

impl fmt::Display for Template {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Set of templates for all messages.
///
/// ```
/// use webhook_notify::message::{Messages, Template};
/// let messages = Messages::new()?.with_template(Template::Subject, "[ACME] {{ title }}: {{ state_text }}")?;
/// let error = Messages::new()?.with_template(Template::Text, "{{ tokn }}").unwrap_err();
/// assert!(error.to_string().contains("tokn"));
/// # Ok::<(), webhook_notify::message::TemplateError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Messages {
    environment: Environment<'static>,
}

/// Error of a template.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The template cannot be parsed or rendered.
    #[error("the template {template} is wrong")]
    Wrong {
        /// Kind of the template.
        template: Template,
        /// Error of the template engine.
        source: BoxError,
    },
    /// The template engine refuses this crate's settings.
    #[error("the template engine cannot be set up")]
    Syntax(#[source] BoxError),
    /// The template uses an unknown name.
    #[error("the template {template} uses {name}, which is not known; it has {}", NAMES.join(", "))]
    UnknownName {
        /// Kind of the template.
        template: Template,
        /// The unknown name.
        name: String,
    },
}

impl Messages {
    /// Uses the templates of this crate.
    ///
    /// # Errors
    /// None in practice: the templates are part of the crate, and its tests render them.
    pub fn new() -> Result<Self, TemplateError> {
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|name| match name {
            "html" => AutoEscape::Html,
            SLACK => AutoEscape::Custom(Cow::Borrowed(SLACK)),
            _ => AutoEscape::None,
        });
        environment.set_formatter(format_value);
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| TemplateError::Syntax(error.into()))?);
        let messages = Self { environment };
        Template::ALL.into_iter().try_fold(messages, |all, one| all.with_template(one, one.source()))
    }

    /// Replaces a template.
    ///
    /// Fails with [`TemplateError`] when it cannot be parsed or uses an unknown name.
    pub fn with_template(
        mut self,
        template: Template,
        source: impl Into<String>,
    ) -> Result<Self, TemplateError> {
        let name = template.name();
        let wrong = |error: minijinja::Error| TemplateError::Wrong { template, source: error.into() };
        self.environment.add_template_owned(name, source.into()).map_err(wrong)?;
        let used = self.environment.get_template(name).map_err(wrong)?.undeclared_variables(false);
        let is_known = |used: &str| {
            NAMES.contains(&used) || self.environment.globals().any(|(global, _)| global == used)
        };
        let mut unknown: Vec<String> = used.into_iter().filter(|used| !is_known(used)).collect();
        unknown.sort();
        match unknown.into_iter().next() {
            Some(unknown) => Err(TemplateError::UnknownName { template, name: unknown }),
            None => Ok(self),
        }
    }

    /// Renders a template.
    ///
    /// Fails with [`TemplateError`] when the template does something impossible, such as iterating over a
    /// number.
    pub fn render(&self, template: Template, news: &Notification) -> Result<String, TemplateError> {
        let wrong = |error: minijinja::Error| TemplateError::Wrong { template, source: error.into() };
        let compiled = self.environment.get_template(template.name()).map_err(wrong)?;
        let text = compiled.render(Value::from(Serde(Facts::of(news)))).map_err(wrong)?;
        Ok(match template {
            Template::Subject => shortened(&one_line(text.trim()), SUBJECT_CHARACTERS),
            _ => text,
        })
    }
}

/// Writes nothing for a missing value, and other values escaped for their context.
fn format_value(
    output: &mut Output<'_>,
    state: &mut State<'_, '_>,
    value: &Value,
) -> Result<(), minijinja::Error> {
    let is_for_slack = matches!(state.auto_escape(), AutoEscape::Custom(name) if name == SLACK);
    if value.is_none() {
        Ok(())
    } else if is_for_slack && !value.is_safe() {
        Ok(output.write_str(&plain_for_slack(&value.to_string()))?)
    } else if is_for_slack {
        Ok(write!(output, "{value}")?)
    } else {
        minijinja::escape_formatter(output, state, value)
    }
}

/// Escapes Slack's control characters as its documentation requires. Nothing else starts a link or a mention.
pub(crate) fn escaped_for_slack(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Escapes a text so that Slack shows it as it is.
///
/// Slack has no escape for its markup, but no markup begins at an invisible character.
pub(crate) fn plain_for_slack(text: &str) -> String {
    const WORD_JOINER: char = '\u{2060}';
    let escaped = escaped_for_slack(text);
    let mut plain = String::with_capacity(escaped.len());
    let mut before = None;
    let mut masked_until = 0;
    for (place, character) in escaped.char_indices() {
        let rest = &escaped[place + character.len_utf8()..];
        let stands_alone = before.is_none_or(char::is_whitespace);
        if stands_alone
            && let Some(after) = escaped[place..].strip_prefix(MASK)
            && after.chars().next().is_none_or(char::is_whitespace)
        {
            // The mask of a secret is not markup by itself.
            masked_until = place + MASK.len();
        }
        let is_word = |neighbour: Option<char>| neighbour.is_some_and(char::is_alphanumeric);
        let is_markup = match character {
            '*' if place < masked_until => false,
            '*' | '~' | '`' => true,
            // Within a word, as in the names of many parameters, it is not markup.
            '_' => !(is_word(before) && is_word(rest.chars().next())),
            ':' => is_emoji(rest),
            _ => false,
        };
        if is_markup {
            plain.extend([WORD_JOINER, character, WORD_JOINER]);
        } else {
            plain.push(character);
        }
        before = Some(character);
    }
    plain
}

/// Returns whether a text begins with the name of an emoji and its closing colon.
fn is_emoji(text: &str) -> bool {
    let name = text.split_once(':').map_or("", |(name, _)| name);
    let may_stand = |it: char| it.is_alphanumeric() || matches!(it, '_' | '-' | '+' | '\'');
    // Digits alone are a time of day, not an emoji.
    name.chars().all(may_stand) && name.contains(|it: char| !it.is_ascii_digit())
}

/// Names that a template can use.
const NAMES: [&str; 15] = [
    "title",
    "workflow",
    "event",
    "state",
    "state_text",
    "duration",
    "duration_s",
    "attempt",
    "max_attempts",
    "parameters",
    "parameters_left_out",
    "error",
    "summary",
    "run_id",
    "run_url",
];

/// Values that a template can use.
#[derive(Serialize)]
struct Facts<'a> {
    title: &'a str,
    workflow: String,
    event: &'static str,
    state: &'static str,
    state_text: &'static str,
    duration: Option<String>,
    duration_s: Option<f64>,
    attempt: u32,
    max_attempts: u32,
    parameters: Vec<Parameter>,
    parameters_left_out: usize,
    error: Option<Failure<'a>>,
    summary: Option<&'a str>,
    run_id: String,
    run_url: Option<&'a str>,
}

#[derive(Serialize)]
struct Parameter {
    name: String,
    value: String,
}

#[derive(Serialize)]
struct Failure<'a> {
    kind: &'static str,
    message: &'a str,
}

impl<'a> Facts<'a> {
    fn of(news: &'a Notification) -> Self {
        let run: &Run = &news.run;
        let duration =
            run.started_at().zip(run.finished_at()).and_then(|(start, end)| end.duration_since(start).ok());
        let shown = run.parameters().iter().take(PARAMETERS);
        Self {
            title: &news.title,
            workflow: run.workflow().to_string(),
            event: match news.event {
                EventKind::Success => "success",
                _ => "failure",
            },
            state: run.state().as_str(),
            state_text: if run.state() == RunState::TimedOut { "timed out" } else { run.state().as_str() },
            duration: duration.map(for_people),
            duration_s: duration.map(|duration| duration.as_secs_f64()),
            attempt: run.attempt(),
            max_attempts: run.max_attempts(),
            parameters: shown
                .map(|(name, value)| Parameter { name: one_line(&name), value: shown_value(&value) })
                .collect(),
            parameters_left_out: run.parameters().iter().count().saturating_sub(PARAMETERS),
            error: run
                .error()
                .as_ref()
                .map(|error| Failure { kind: error.kind.as_str(), message: &error.message }),
            summary: run.summary(),
            run_id: run.id().to_string(),
            run_url: news.run_url.as_deref(),
        }
    }
}

fn shown_value(parameter: &RunParameter) -> String {
    let text = match parameter.shown() {
        serde_json::Value::String(text) => text,
        value => value.to_string(),
    };
    shortened(&one_line(&text), VALUE_CHARACTERS)
}

/// Replaces line ends and other control characters by blanks.
fn one_line(text: &str) -> String {
    let breaks = |character: char| character.is_control() || matches!(character, '\u{2028}' | '\u{2029}');
    text.replace(breaks, " ")
}

/// Cuts a text to so many characters, and marks the cut.
pub(crate) fn shortened(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        None => text.to_owned(),
        Some(_) => text.chars().take(characters.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// Formats a duration in its two largest units.
fn for_people(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0..10) => format!("{:.1} s", duration.as_secs_f64()),
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
pub(crate) mod tests;
