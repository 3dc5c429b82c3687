//! An embedding in about thirty lines: a workflow from a closure, the sled store, the warp routes.

#![allow(clippy::print_stdout, reason = "it prints the URL to call")]

use std::time::Duration;

use webhook_trigger::prelude::*;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let server = Server::bind(address.parse()?).await?;

    let name = ParameterBlock::new("name", ParameterType::Text).with_default("world");
    let greeting = Workflow::new("report/greeting".parse()?, "Greeting", ParameterBlocks::new(vec![name])?);
    let executor = FnExecutor::new([greeting], async |context| {
        let name = context.parameters.get("name").map(|name| name.value.to_string()).unwrap_or_default();
        Ok(RunOutput::new().with_summary(format!("Hello {name}")))
    });

    let webhooks = Webhooks::builder()
        .store(SledStore::open("data/minimal")?)
        .executor(executor)
        .token_key(TokenKey::load_or_create("data/minimal.key")?) // lets "copy URL" work later
        .base_url(format!("http://{}", server.local_address()?).parse()?)
        .build()
        .await?;
    let (greeting, settings) = ("report/greeting".parse()?, WebhookSettings::default());
    if let Some(url) = webhooks.manage().ensure_webhook(greeting, "quick start", settings).await?.url {
        println!("curl '{}&name=you'", url.expose());
    }

    let workers = webhooks.start_workers(WorkerOptions::default());
    let interrupted = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
    let routes = webhook_trigger::warp::service(webhook_trigger::warp::routes(&webhooks));
    server.serve(routes, webhooks.shutdown_on(interrupted)).await; // also ends event streams
    workers.shutdown(Duration::from_secs(30)).await;
    webhooks.close().await;
    Ok(())
}
