//! A host's own notifier, for Microsoft Teams.
//!
//! A webhook's settings name its recipients: `{"notifications": {"teams": {"recipients": ["ops"], "on": ["failure"]}}}`.
//! A recipient is a name that the host gave to the URL of a Teams workflow. The workflow's template in Teams is "Post to a
//! channel when a webhook request is received".

#![allow(clippy::print_stdout, reason = "it prints what to call")]

use std::collections::HashMap;
use std::time::Duration;

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
        let answer = request.send().await.map_err(|error| match error.is_connect() {
            true => DeliverError::unreachable(error.without_url()),
            false => DeliverError::retryable(error.without_url()),
        })?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status if status.is_client_error() => Err(DeliverError::permanent(format!("refused: {status}"))),
            status => Err(DeliverError::retryable(format!("failed: {status}"))),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let server = Server::bind(address.parse()?).await?;
    let base_url = format!("http://{}", server.local_address()?);

    let sales = Workflow::new("report/sales".parse()?, "Sales", ParameterBlocks::default());
    let urls = HashMap::from([("ops".to_owned(), std::env::var("TEAMS_URL")?)]);
    // Messages link to a page of the host about the run.
    let runs = format!("{base_url}/runs");
    let webhooks = Webhooks::builder()
        .store(MemoryStore::new())
        .executor(FnExecutor::new([sales], async |_| Ok(RunOutput::new().with_summary("printed"))))
        .notifier(Teams { urls, client: reqwest::Client::new() })
        .run_url(move |run| Some(format!("{runs}/{}", run.id())))
        .base_url(base_url.parse()?)
        .build()
        .await?;
    let settings = json!({"notifications": {"teams": {"recipients": ["ops"], "on": ["success", "failure"]}}});
    let settings = WebhookSettings::default().patched(&settings)?;
    let created = webhooks.manage().create_webhook("report/sales".parse()?, settings).await?;
    println!("curl '{}'", created.url.expose());

    let workers = webhooks.start_workers(WorkerOptions::default());
    let interrupted = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
    let routes = webhook_trigger::warp::service(webhook_trigger::warp::routes(&webhooks));
    server.serve(routes, webhooks.shutdown_on(interrupted)).await;
    workers.shutdown(Duration::from_secs(30)).await;
    webhooks.close().await;
    Ok(())
}
