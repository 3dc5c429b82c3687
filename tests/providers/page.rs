//! The text of the pages.

use std::fmt::Write;

use webhook_core::sender::recipes::{Field, FieldValue, Recipe, RecipeStep, SecretOrigin};
use webhook_core::verification::Preset;

const NOTE: &str =
    "<!-- Written from the presets and recipes of webhook-core. tests/providers/main.rs says how. -->";

/// Returns the page that lists all others.
pub(crate) fn overview() -> String {
    let mut text = format!(
        "{NOTE}\n\
         # Senders\n\n\
         Each page shows how to set up one sender so that its calls start the demo report `daily-sales`.\n\
         The panel shows the same steps beside the settings of a webhook.\n\
         [The HTTP reference](../http.md) explains the settings.\n\n\
         | sender | preset | secret | check of the URL | status of success |\n\
         |---|---|---|---|---|\n"
    );
    for recipe in Recipe::all() {
        let preset = recipe.preset();
        let name = preset.map_or_else(|| "none".to_owned(), |preset| format!("`{}`", preset.as_str()));
        let secret = match recipe.secret {
            SecretOrigin::Webhook => "made here",
            SecretOrigin::Sender => "made at the sender",
            _ => "none",
        };
        let (check, status) = (check_of_url(preset), status(preset));
        let (title, file) = (recipe.title, recipe.name);
        writeln!(text, "| [{title}]({file}.md) | {name} | {secret} | {check} | {status} |").unwrap();
    }
    text
}

/// Returns the page of one sender.
pub(crate) fn page(recipe: &Recipe) -> String {
    let Recipe { title, starts, .. } = recipe;
    let mut text = format!("{NOTE}\n# {title}\n\n{starts}\n");
    text.push_str("\n## Set up\n\n");
    text.push_str(
        "Create a webhook of `daily-sales` with the settings below, and keep its URL with the token.\n",
    );
    if recipe.secret == SecretOrigin::Webhook {
        text.push_str("Add a secret to it: it is shown this once.\n");
    }
    text.push('\n');
    for (index, step) in recipe.steps.iter().enumerate() {
        write_step(&mut text, index + 1, step);
    }
    let settings = serde_json::to_string_pretty(&recipe.settings()).unwrap();
    write!(text, "\n## Settings\n\n```json\n{settings}\n```\n\n").unwrap();
    write_preset(&mut text, recipe.preset());
    write_call(&mut text, recipe);
    text.push_str("\n## Parameters\n\nThe run gets:\n\n| parameter | value |\n|---|---|\n");
    for (name, value) in recipe.parameters {
        writeln!(text, "| `{name}` | `{value}` |").unwrap();
    }
    for (heading, sentences) in [("Verified", recipe.verified), ("Not verified", recipe.not_verified)] {
        write!(text, "\n## {heading}\n\n").unwrap();
        for sentence in sentences {
            writeln!(text, "- {sentence}").unwrap();
        }
    }
    text
}

fn write_step(text: &mut String, number: usize, step: &RecipeStep) {
    writeln!(text, "{number}. {}", step.text).unwrap();
    if !step.fields.is_empty() {
        text.push_str("\n   | field | content |\n   |---|---|\n");
        for field in step.fields {
            writeln!(text, "   | {} | {} |", field.name, content(field)).unwrap();
        }
        text.push('\n');
    }
    if let Some(code) = step.code {
        text.push_str("\n   ```text\n");
        for line in code.lines() {
            let indent = if line.is_empty() { "" } else { "   " };
            writeln!(text, "{indent}{line}").unwrap();
        }
        text.push_str("   ```\n\n");
        if code.contains("{address}") || code.contains("{host}") {
            text.push_str("   `{address}` stands for the URL without its query, and `{host}` for its host and port.\n\n");
        }
    }
}

fn content(field: &Field) -> String {
    match field.value {
        FieldValue::Url => "the URL of the webhook, with its token".to_owned(),
        FieldValue::Address => "the URL of the webhook without its query".to_owned(),
        FieldValue::Token => "the token, which is in the query of the URL".to_owned(),
        FieldValue::Secret => "the secret of the webhook".to_owned(),
        FieldValue::Text(text) => format!("`{text}`"),
        FieldValue::Choice(choice) => choice.to_owned(),
        _ => unreachable!("a page says what goes into each field"),
    }
}

/// Writes what the table knows of the sender.
fn write_preset(text: &mut String, preset: Option<Preset>) {
    let Some(preset) = preset else {
        text.push_str("There is no preset for this sender, so the settings say all that is needed.\n");
        return;
    };
    let key = preset.key().place().map_or_else(|| "none".to_owned(), |place| format!("`{place}`"));
    writeln!(text, "The preset `{}` knows:\n", preset.as_str()).unwrap();
    text.push_str("| fact | value |\n|---|---|\n");
    writeln!(text, "| id of an event | {key} |").unwrap();
    writeln!(text, "| check of the URL, which starts no run | {} |", check_of_url(Some(preset))).unwrap();
    writeln!(text, "| status of success | {} |", status(Some(preset))).unwrap();
}

fn check_of_url(preset: Option<Preset>) -> &'static str {
    preset.and_then(|preset| preset.handshake().form()).unwrap_or("none")
}

fn status(preset: Option<Preset>) -> u16 {
    preset.and_then(Preset::status).unwrap_or(202)
}

fn write_call(text: &mut String, recipe: &Recipe) {
    text.push_str("\n## A call\n\n");
    let verification = recipe.verification();
    if verification.is_some_and(|verification| verification.needs_secret()) {
        text.push_str("The sender adds its signature. ");
    }
    text.push_str("The preview in the panel shows what becomes of it.\n\n");
    text.push_str("```http\nPOST /api/v1/report/daily-sales/webhook?token=… HTTP/1.1\n");
    for (name, value) in recipe.sample.headers {
        writeln!(text, "{name}: {value}").unwrap();
    }
    let body = recipe.sample.body();
    let is_json = body.starts_with('{');
    let shown = if is_json { spread(body) } else { body.to_owned() };
    write!(text, "\n{shown}\n```\n").unwrap();
}

/// Spreads a JSON text over lines, with its members in their order and its numbers as they are written.
fn spread(json: &str) -> String {
    let mut spread = String::new();
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    let mut characters = json.chars().peekable();
    let line = |spread: &mut String, depth: usize| {
        spread.push('\n');
        spread.push_str(&"  ".repeat(depth));
    };
    while let Some(character) = characters.next() {
        if quoted {
            spread.push(character);
            quoted = escaped || character != '"';
            escaped = character == '\\' && !escaped;
            continue;
        }
        match character {
            '"' => {
                quoted = true;
                spread.push(character);
            }
            '{' | '[' => {
                spread.push(character);
                while characters.next_if(|it| it.is_ascii_whitespace()).is_some() {}
                match characters.next_if(|it| matches!(it, '}' | ']')) {
                    Some(end) => spread.push(end),
                    None => {
                        depth += 1;
                        line(&mut spread, depth);
                    }
                }
            }
            '}' | ']' => {
                depth -= 1;
                line(&mut spread, depth);
                spread.push(character);
            }
            ',' => {
                spread.push(character);
                line(&mut spread, depth);
            }
            ':' => spread.push_str(": "),
            other if other.is_ascii_whitespace() => {}
            other => spread.push(other),
        }
    }
    spread
}
