//! Tests that no part of a secret value comes out, wherever a cut falls into it.

use super::*;

/// Secret without characters that occur elsewhere eight in a row.
const SECRET: &str = "SECRETcanary-0123456789abcdef";

/// Number of consecutive characters of a secret that count as a part of it.
const PART: usize = 8;

fn assert_no_part(text: &str, what: &str) {
    let mut parts = SECRET.as_bytes().windows(PART).map(|part| std::str::from_utf8(part).unwrap());
    if let Some(part) = parts.find(|part| text.contains(part)) {
        panic!("{what}: {part} is in {:?}", &text[..text.len().min(600)]);
    }
}

/// Prints the secret after each of these numbers of characters, and then runs `rest`.
fn printing(paddings: impl IntoIterator<Item = usize>, stream: &str, rest: &str) -> Trial {
    let paddings: Vec<_> = paddings.into_iter().map(|padding| padding.to_string()).collect();
    let script = format!(
        "for padding in {}; do head -c $padding /dev/zero | tr '\\0' x; printf '%s.\\n' \"$SECRET\"; done >&{stream}; {rest}",
        paddings.join(" ")
    );
    with_secret(Command::new("/bin/sh").with_arguments(["-c", &script]).with_variable("SECRET", SECRET))
}

fn with_secret(command: Command) -> Trial {
    let mut trial = Trial::new(command);
    let secret = EffectiveParameter::new(SECRET, Source::Body).secret();
    let parameters = EffectiveParameters::from_iter([("password".to_owned(), secret)]);
    trial.context = RunContext::new(trial.context.run, trial.context.workflow, 1, parameters);
    trial
}

#[tokio::test]
async fn the_error_of_a_command_is_masked_before_its_lines_are_cut() {
    let paddings: Vec<_> = (400 - SECRET.len() - 2..=402).collect();
    for paddings in paddings.chunks(5) {
        let (outcome, lines) = printing(paddings.iter().copied(), "2", "exit 3").finish().await;
        let message = outcome.unwrap_err().to_string();
        assert!(message.starts_with("exit status 3\nxxx"), "{message}");
        assert_no_part(&message, &format!("the error behind {paddings:?}"));
        assert_no_part(&lines.join("\n"), &format!("the log behind {paddings:?}"));
    }
}

#[tokio::test]
async fn the_log_of_a_command_is_masked_before_long_lines_are_cut() {
    let bound = 64 * 1024;
    for stream in ["1", "2"] {
        let (outcome, lines) = printing(bound - SECRET.len() - 2..=bound + 2, stream, "").finish().await;
        outcome.unwrap();
        let log = lines.concat();
        assert!(log.contains("x***.") && lines.len() > SECRET.len());
        assert_no_part(&log, stream);
    }
}

#[tokio::test]
async fn a_secret_that_comes_in_pieces_or_escaped_and_one_that_is_never_finished_are_masked() {
    let (head, tail) = SECRET.split_at(11);
    let script = format!(
        "printf '{head}'; sleep 0.05; printf '{tail} and '; printf 'SECRET\\\\u0063anary-0123456789abcdef\\n'; \
         printf '{head}{}'; kill -9 $$",
        &tail[..tail.len() - 1]
    );
    let (outcome, lines) =
        with_secret(Command::new("/bin/sh").with_arguments(["-c", &script])).finish().await;
    assert!(outcome.is_err());
    assert_eq!(lines, ["*** and ***", "***"]);
}

#[tokio::test]
async fn a_summary_is_masked_whatever_it_says() {
    let script = format!("printf '{{\"summary\":\"it is {SECRET}\"}}\\n'");
    let trial = with_secret(Command::new("/bin/sh").with_arguments(["-c", &script]));
    assert_eq!(trial.finish().await.0.unwrap().summary.as_deref(), Some("it is ***"));
}
