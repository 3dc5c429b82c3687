//! A host's own work: invoices from a struct of its own, beside a report from a closure.
//!
//! Invoices have typed parameters, a secret one among them, and report progress. They can be cancelled, and keep a file.

#![allow(clippy::print_stdout, reason = "it prints what to call")]

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use webhook_trigger::executor::{ArtifactContent, ExecutorError, FixedWorkflows, WorkflowPage};
use webhook_trigger::prelude::*;
use webhook_trigger::run::Artifact;
use webhook_trigger::{RunId, WorkflowKey};

/// Name of an invoice among the artifacts of its run.
const INVOICE: &str = "invoice.txt";

/// Executor that writes the invoices of a customer's file.
struct Billing {
    workflows: FixedWorkflows,
    /// Folder with a folder for each run.
    folder: PathBuf,
}

/// Parameters of an invoice. Each field has the name of its parameter.
#[derive(serde::Deserialize)]
struct Invoice {
    customer: String,
    months: u32,
    note: Option<String>,
    password: Option<String>,
}

impl Billing {
    fn new(folder: impl Into<PathBuf>) -> Result<Self, Box<dyn std::error::Error>> {
        let parameters = ParameterBlocks::new(vec![
            ParameterBlock::new("customer", ParameterType::Text).required(),
            ParameterBlock::new("months", ParameterType::Integer).with_default(1),
            ParameterBlock::new("note", ParameterType::Text),
            ParameterBlock::new("password", ParameterType::Text).secret(),
        ])?;
        let invoices = Workflow::new("billing/invoices".parse()?, "Invoices", parameters);
        Ok(Self { workflows: FixedWorkflows::new([invoices]), folder: folder.into() })
    }

    async fn write_invoice(&self, context: &RunContext) -> Result<RunOutput, ExecuteError> {
        let invoice: Invoice = context.parameters.parse()?;
        if invoice.months == 0 {
            return Err(ExecuteError::fatal("an invoice is for one month at least"));
        }
        let mut text = format!("Invoice for {}\n", invoice.customer);
        for month in 1..=invoice.months {
            context.progress(f64::from(month - 1) / f64::from(invoice.months), format!("month {month}"));
            // In a log, a secret value shows as `***`.
            context.log(format!("reading month {month} with {:?}", invoice.password));
            tokio::select! {
                reason = context.cancellation.cancelled() => {
                    return Err(ExecuteError::retryable(format!("stopped: {reason:?}")));
                }
                // Stands for the real work.
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
            text.push_str(&format!("month {month}: 10 EUR\n"));
        }
        text.push_str(invoice.note.as_deref().unwrap_or_default());
        let folder = self.folder.join(context.run.to_string());
        // A disk may have room again later.
        std::fs::create_dir_all(&folder).map_err(ExecuteError::retryable)?;
        std::fs::write(folder.join(INVOICE), &text).map_err(ExecuteError::retryable)?;
        let artifact = Artifact::new(INVOICE, "text/plain; charset=utf-8", text.len() as u64);
        Ok(RunOutput::new().with_summary(format!("{} EUR", invoice.months * 10)).with_artifact(artifact))
    }
}

#[async_trait::async_trait]
impl Executor for Billing {
    async fn list(&self, _cursor: Option<String>) -> Result<WorkflowPage, ExecutorError> {
        Ok(self.workflows.list())
    }

    async fn describe(
        &self,
        workflow: &WorkflowKey,
    ) -> Result<Option<std::sync::Arc<Workflow>>, ExecutorError> {
        Ok(self.workflows.get(workflow))
    }

    async fn execute(&self, context: RunContext) -> Result<RunOutput, ExecuteError> {
        self.write_invoice(&context).await
    }

    async fn artifact(&self, run: RunId, name: &str) -> Result<Option<ArtifactContent>, ExecutorError> {
        // The name comes from outside, so it is compared and never part of a path.
        if name != INVOICE {
            return Ok(None);
        }
        match std::fs::File::open(self.folder.join(run.to_string()).join(INVOICE)) {
            Ok(file) => Ok(Some(ArtifactContent::opened("text/plain; charset=utf-8", file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ExecutorError::new(error)),
        }
    }

    async fn discard(&self, runs: &[RunId]) -> Result<(), ExecutorError> {
        for run in runs {
            match std::fs::remove_dir_all(self.folder.join(run.to_string())) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(ExecutorError::new(error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let server = Server::bind(address.parse()?).await?;

    let sales = Workflow::new("report/sales".parse()?, "Sales", ParameterBlocks::default());
    let reports = FnExecutor::new([sales], async |_| Ok(RunOutput::new().with_summary("printed")));
    let webhooks = Webhooks::builder()
        .store(SledStore::open("data/own-executor")?)
        .executor(Executors::new().with(Billing::new("data/invoices")?).with(reports))
        .kind("billing") // beside `report`, which is known
        .token_key(TokenKey::load_or_create("data/own-executor.key")?)
        .base_url(format!("http://{}", server.local_address()?).parse()?)
        .build()
        .await?;
    for workflow in ["billing/invoices", "report/sales"] {
        let settings = WebhookSettings::default();
        let ensured = webhooks.manage().ensure_webhook(workflow.parse()?, "example", settings).await?;
        if let Some(url) = ensured.url {
            println!("curl '{}&customer=ACME'", url.expose());
        }
    }

    let workers = webhooks.start_workers(WorkerOptions::default());
    // A host reads this from its secrets.
    let token = std::env::var("ADMIN_TOKEN")
        .unwrap_or_else(|_| "an example, and so no secret at all".replace(' ', "-"));
    let routes = webhook_trigger::warp::all_routes(&webhooks, AdminAccess::token(&token)?);
    let interrupted = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
    server.serve(webhook_trigger::warp::service(routes), webhooks.shutdown_on(interrupted)).await;
    workers.shutdown(Duration::from_secs(30)).await;
    webhooks.close().await;
    Ok(())
}
