//! The notifiers that the command line configures.

use std::path::Path;

use webhook_notify::slack::{SlackNotifier, SlackOptionsError};
use webhook_notify::smtp::{SmtpNotifier, SmtpOptions, SmtpOptionsError};

use crate::command_line::{CommandLineError, Secret};
use crate::report::chain;

/// Creates a notifier for this mail server. Error messages name the flag and repeat no value.
pub(crate) fn smtp(
    url: &Secret,
    from: &str,
    authority: Option<&Path>,
) -> Result<SmtpNotifier, CommandLineError> {
    let wrong = |flag: &'static str| move |error: SmtpOptionsError| usage(flag, &error);
    let options = SmtpOptions::from_url(url.expose()).map_err(wrong("--smtp"))?;
    let options = options.with_from(from).map_err(wrong("--smtp-from"))?;
    let built = |options, flag| {
        SmtpNotifier::new(options).map_err(|error| match error {
            SmtpOptionsError::LocalSender(_) => usage("--smtp-from", &error),
            error => usage(flag, &error),
        })
    };
    let Some(file) = authority else { return built(options, "--smtp") };
    let pem = std::fs::read(file).map_err(|error| {
        CommandLineError::Usage(format!("--smtp-ca-file: {} cannot be read: {error}", file.display()))
    })?;
    let options = options.with_root_certificates(&pem).map_err(wrong("--smtp-ca-file"))?;
    built(options, "--smtp-ca-file")
}

/// Creates a notifier for Slack with this token.
pub(crate) fn slack(token: &Secret, api: &str) -> Result<SlackNotifier, CommandLineError> {
    let wrong = |flag: &'static str| move |error: SlackOptionsError| usage(flag, &error);
    let notifier = SlackNotifier::with_token(token.expose()).map_err(wrong("--slack-token"))?;
    notifier.with_api(api).map_err(wrong("--slack-api"))
}

fn usage(flag: &str, error: &dyn std::error::Error) -> CommandLineError {
    CommandLineError::Usage(format!("{flag}: {}", chain(error)))
}
