//! The webhook of the bundled demo report.

use std::error::Error;
use std::path::Path;

use webhook_core::Webhooks;
use webhook_core::store::WebhookQuery;
use webhook_core::token::TriggerUrl;
use webhook_core::webhook::WebhookSettings;

use crate::data_folder::{self, DEMO_MADE};

/// Bundled workflow that gets its own webhook.
const DEMO: &str = "report/daily-sales";
/// Label of that webhook.
const DEMO_LABEL: &str = "Demo";

/// Returns the URL of the demo webhook. It is created only once, so a deleted demo webhook does not return.
pub(crate) async fn url(webhooks: &Webhooks, data: &Path) -> Result<Option<TriggerUrl>, Box<dyn Error>> {
    let made = data.join(DEMO_MADE);
    let query = WebhookQuery::default().of_workflow(DEMO.parse()?).limit(200);
    let page = webhooks.manage().list_webhooks(query).await?;
    let demo = page.items.iter().find(|webhook| webhook.settings.label.as_deref() == Some(DEMO_LABEL));
    let url = match demo {
        Some(webhook) => webhooks.manage().get_url(webhook.id).await.ok(),
        None if made.exists() => return Ok(None),
        None => Some(create(webhooks).await?),
    };
    data_folder::note(&made)?;
    Ok(url)
}

/// Creates the demo webhook.
pub(crate) async fn create(webhooks: &Webhooks) -> Result<TriggerUrl, Box<dyn Error>> {
    let settings = WebhookSettings::default().patched(&serde_json::json!({ "label": DEMO_LABEL }));
    let settings = settings.map_err(|_| "the demo webhook has wrong settings")?;
    Ok(webhooks.manage().create_webhook(DEMO.parse()?, settings).await?.url)
}
