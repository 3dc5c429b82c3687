//! A host's own notifier, for Microsoft Teams.
//!
//! A webhook's settings name its recipients: `{"notifications": {"teams": {"recipients": ["ops"], "on": ["failure"]}}}`.
//! A recipient is a name that the host gave to the URL of a Teams workflow. The workflow's template in Teams is "Post to a
//! channel when a webhook request is received".

use std::collections::HashMap;

use serde_json::json;
use webhook_trigger::notifier::{DeliverError, Notification};
use webhook_trigger::prelude::*;
use webhook_trigger::webhook::Channel;

/// The host's own channel.
const TEAMS: Channel = Channel::new("teams");

struct Teams {
    urls: HashMap<String, String>,
    client: reqwest::Client,
}

#[async_trait::async_trait]
impl Notifier for Teams {
    fn channels(&self) -> &[Channel] {
        &[TEAMS]
    }

    fn check(&self, _channel: Channel, recipient: &str) -> Result<(), String> {
        self.urls.get(recipient).map(drop).ok_or_else(|| "no Teams channel has this name".to_owned())
    }

    async fn deliver(&self, news: &Notification) -> Result<(), DeliverError> {
        let unknown = || DeliverError::permanent("no Teams channel has this name any more");
        let url = self.urls.get(&news.recipient).ok_or_else(unknown)?;
        let text = format!("{} {}", news.title, news.run.state().as_str());
        let request = self.client.post(url).json(&json!({"text": text, "link": news.run_url}));
        // The URL is a secret, so no error may repeat it.
        let answer = request.send().await.map_err(|error| DeliverError::retryable(error.without_url()))?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status if status.is_client_error() => Err(DeliverError::permanent(format!("refused: {status}"))),
            status => Err(DeliverError::retryable(format!("failed: {status}"))),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let urls = HashMap::from([("ops".to_owned(), std::env::var("TEAMS_URL")?)]);
    let webhooks = Webhooks::builder()
        .store(MemoryStore::new())
        .executor(FnExecutor::new([], async |_| Ok(RunOutput::new())))
        .notifier(Teams { urls, client: reqwest::Client::new() })
        .build()
        .await?;
    // The rest is as in examples/minimal.rs.
    drop(webhooks);
    Ok(())
}
