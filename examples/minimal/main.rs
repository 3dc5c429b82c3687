//! An embedding in about thirty lines: a workflow from a closure, the sled store, the warp routes.

#![allow(clippy::print_stdout)]

use std::time::Duration;

use webhook_core::Webhooks;
use webhook_core::executor::{FnExecutor, RunOutput, Workflow};
use webhook_core::parameters::{ParameterBlock, ParameterBlocks, ParameterType};
use webhook_core::token::TokenKey;
use webhook_core::webhook::WebhookSettings;
use webhook_core::work::WorkerOptions;
use webhook_sled::SledStore;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
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
        .base_url("http://127.0.0.1:8080".parse()?)
        .build()
        .await?;
    let created = webhooks.manage().create("report/greeting".parse()?, WebhookSettings::default()).await?;
    println!("curl '{}&name=you'", created.url.expose());

    let workers = webhooks.start_workers(WorkerOptions::default());
    let interrupted = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
    let server = warp::serve(webhook_warp::routes(&webhooks)).bind(([127, 0, 0, 1], 8080)).await;
    server.graceful(webhooks.shutdown_on(interrupted)).run().await; // ends streams of events, too
    workers.shutdown(Duration::from_secs(30)).await;
    Ok(())
}
