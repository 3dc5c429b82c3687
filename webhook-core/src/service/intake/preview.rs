//! Detects programs that fetch a link because it was pasted or is on a page, and not to start a run.

/// Parts of the user agents of link expanders and crawlers, in lower case.
const LINK_EXPANDERS: [&str; 28] = [
    "slackbot",
    "slack-imgproxy",
    "facebookexternalhit",
    "facebot",
    "twitterbot",
    "discordbot",
    "telegrambot",
    "whatsapp",
    "linkedinbot",
    "skypeuripreview",
    "microsoftpreview",
    "teamsbot",
    "msteams",
    "mattermost-bot",
    "rocket.chat",
    "google-pagerenderer",
    "googleimageproxy",
    "iframely",
    "embedly",
    "redditbot",
    "pinterestbot",
    "viber",
    "bingpreview",
    "bingbot",
    "googlebot",
    "applebot",
    "duckduckbot",
    "yandexbot",
];

pub(super) fn is_link_expander(user_agent: &str) -> bool {
    let user_agent = user_agent.to_ascii_lowercase();
    LINK_EXPANDERS.iter().any(|part| user_agent.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chat_programs_are_known_and_callers_are_not_mistaken_for_them() {
        for expander in [
            "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
            "Mozilla/5.0 (compatible; Discordbot/2.0; +https://discordapp.com)",
            "Mozilla/5.0 (Windows NT 6.1; WOW64) SkypeUriPreview Preview/0.5",
            "facebookexternalhit/1.1",
            "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Safari/537.36 BingPreview/1.0b",
            "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        ] {
            assert!(is_link_expander(expander), "{expander}");
        }
        for caller in
            ["curl/8.5.0", "python-requests/2.32", "apache-airflow/2.10", "Mozilla/5.0 Firefox/140", ""]
        {
            assert!(!is_link_expander(caller), "{caller}");
        }
    }
}
