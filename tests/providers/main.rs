//! Pages of the providers: `docs/providers` is what the table of presets and the recipes say, and each page works.
//!
//! `WEBHOOK_TEST_WRITE_PAGES=1 cargo test --test providers` writes the pages.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod page;
mod reading;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use webhook_core::Webhooks;
use webhook_core::executor::{FnExecutor, RunOutput, Workflow};
use webhook_core::intake::Method;
use webhook_core::manage::SampleCall;
use webhook_core::memory::MemoryStore;
use webhook_core::parameters::{ParameterBlock, ParameterBlocks, ParameterType, Source};
use webhook_core::sender::recipes::Recipe;
use webhook_core::token::TokenKey;
use webhook_core::webhook::WebhookSettings;

use page::{overview, page};
use reading::PageContent;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/providers")
}

/// Returns the name and the text of each page.
fn pages() -> BTreeMap<String, String> {
    let of_recipes = Recipe::all().map(|recipe| (format!("{}.md", recipe.name), page(recipe)));
    of_recipes.chain([("README.md".to_owned(), overview())]).collect()
}

#[test]
fn the_pages_are_what_the_presets_and_recipes_say() {
    let expected = pages();
    if std::env::var_os("WEBHOOK_TEST_WRITE_PAGES").is_some() {
        std::fs::create_dir_all(folder()).unwrap();
        for (name, text) in &expected {
            std::fs::write(folder().join(name), text).unwrap();
        }
    }
    let mut committed = BTreeMap::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        committed.insert(name, std::fs::read_to_string(&path).unwrap());
    }
    let names = |pages: &BTreeMap<String, String>| pages.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&committed), names(&expected));
    for (name, text) in &expected {
        assert!(
            committed[name] == *text,
            "docs/providers/{name} is old: run this with WEBHOOK_TEST_WRITE_PAGES=1"
        );
    }
}

/// The parameter blocks of the demo workflow.
fn daily_sales() -> Workflow {
    let region = ParameterBlock::new("region", ParameterType::Choice).with_choices(["EMEA", "APAC", "AMER"]);
    let date = ParameterBlock::new("date", ParameterType::Date).with_default("2026-01-14");
    let blocks = ParameterBlocks::new(vec![date, region.with_default("EMEA")]).unwrap();
    Workflow::new("report/daily-sales".parse().unwrap(), "Daily sales", blocks)
}

/// A reader copies settings and call from a page, and sees in a preview what the page says.
#[tokio::test]
async fn what_a_page_shows_gives_daily_sales_the_parameters_that_it_says() {
    let executor = FnExecutor::new([daily_sales()], async |_| Ok(RunOutput::new()));
    let builder = Webhooks::builder().store(MemoryStore::new()).executor(executor);
    let webhooks = builder.token_key(TokenKey::generate()).build().await.unwrap();
    for recipe in Recipe::all() {
        let name = recipe.name;
        let text = std::fs::read_to_string(folder().join(format!("{name}.md"))).unwrap();
        let shown = PageContent::read(&text);
        let settings = WebhookSettings::default().patched(&shown.settings).unwrap();
        let created =
            webhooks.manage().create_webhook("report/daily-sales".parse().unwrap(), settings).await.unwrap();
        let mut sample = SampleCall::new(Method::Post);
        sample.headers = shown.headers;
        sample.body = shown.body;
        let preview = webhooks.manage().preview_call(created.webhook.id, &sample).await.unwrap();
        assert!(preview.problems.is_empty(), "{name}: {:?}", preview.problems);
        assert_eq!((&preview.unmet, preview.handshake), (&None, false), "{name}");
        let given: BTreeMap<String, Value> = preview
            .parameters
            .iter()
            .filter(|(_, parameter)| parameter.source != Source::Default)
            .map(|(name, parameter)| (name.to_owned(), parameter.value.clone()))
            .collect();
        assert_eq!(given, shown.parameters, "{name}");
        assert!(given.contains_key("region"), "{name}");
    }
}
