//! Tests of real senders: their bodies, queries and headers, and the results.

mod bodies;
mod parameters;
mod payloads;
mod urls;

use reqwest::header::CONTENT_TYPE;
use reqwest::{RequestBuilder, Response};
use serde_json::Value;
use webhook_core::executor::Workflow;
use webhook_core::parameters::{ParameterBlock, ParameterBlocks, ParameterType};
use webhook_testing::ScriptedExecutor;

use crate::front::server::ServerOptions;
use crate::support::{Hook, World, content, problem};

const FORM: &str = "application/x-www-form-urlencoded";

/// Starts a world whose workflow declares blocks of most types, with one webhook.
async fn typed(settings: Value) -> (World, Hook) {
    let block = ParameterBlock::new;
    let blocks = ParameterBlocks::new(vec![
        block("region", ParameterType::Choice).with_choices(["EMEA", "APAC"]).with_default("EMEA"),
        block("n", ParameterType::Integer),
        block("x", ParameterType::Number),
        block("flag", ParameterType::Boolean),
        block("day", ParameterType::Date),
        block("text", ParameterType::Text).with_default("hello"),
        block("tags", ParameterType::List),
        block("doc", ParameterType::Json),
        block("password", ParameterType::Text).secret(),
    ]);
    let executor =
        ScriptedExecutor::new([Workflow::new("report/typed".parse().unwrap(), "Typed", blocks.unwrap())]);
    let world = World::start_with(|builder| builder.executor(executor), ServerOptions::default(), true).await;
    let hook = world.hook_of("report/typed", settings).await;
    (world, hook)
}

fn dry(call: RequestBuilder) -> RequestBuilder {
    call.header("webhook-dry-run", "true")
}

fn json_body(world: &World, hook: &Hook, body: impl Into<reqwest::Body>) -> RequestBuilder {
    world.post(&hook.url).header(CONTENT_TYPE, "application/json").body(body)
}

fn form(world: &World, hook: &Hook, body: impl Into<reqwest::Body>) -> RequestBuilder {
    world.post(&hook.url).header(CONTENT_TYPE, FORM).body(body)
}

async fn refused(call: RequestBuilder, status: u16, slug: &str) -> Value {
    problem(call.send().await.unwrap(), status, slug).await
}

async fn detail(call: RequestBuilder, status: u16, slug: &str) -> String {
    refused(call, status, slug).await["detail"].as_str().unwrap().to_owned()
}

async fn value(call: RequestBuilder, name: &str) -> Value {
    content(dry(call).send().await.unwrap(), 200).await["parameters"][name]["value"].clone()
}

/// Returns the names that an answer warns of, with the messages.
async fn warned(response: Response, status: u16) -> Vec<(String, String)> {
    let answer = content(response, status).await;
    let warnings = answer["warnings"].as_array().cloned().unwrap_or_default();
    let text = |warning: &Value, member: &str| warning[member].as_str().unwrap().to_owned();
    warnings.iter().map(|warning| (text(warning, "parameter"), text(warning, "message"))).collect()
}
