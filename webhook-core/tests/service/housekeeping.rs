//! Tests of the removal of expired runs while the store or the executor fails.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use webhook_core::Webhooks;
use webhook_core::clock::Clock;
use webhook_core::executor::{
    ExecuteError, Executor, ExecutorError, RunContext, RunOutput, Workflow, WorkflowPage,
};
use webhook_core::id::{RunId, WorkflowKey};
use webhook_core::manage::ManagementError;
use webhook_core::memory::MemoryStore;
use webhook_core::run::Caller;
use webhook_testing::{Fixture, ScriptedExecutor, TestClock, sales_workflow};

use super::faults::{Faulty, MINUTE, PATIENCE};
use super::unsteady::{Fault, UnsteadyStore};

const DAY: Duration = Duration::from_secs(86_400);

async fn is_removed(webhooks: &Webhooks, run: RunId) -> bool {
    matches!(webhooks.manage().get_run(run).await, Err(ManagementError::NotFound(_)))
}

#[tokio::test(start_paused = true)]
async fn expired_runs_are_removed_once_the_store_can_remove_them() {
    let (memory, clock) = (MemoryStore::new(), TestClock::starting_at(std::time::SystemTime::now()));
    let store = UnsteadyStore::new(memory.clone());
    let builder = Webhooks::builder().clock(clock.clone());
    let settings = json!({"retention_days": 1});
    let fixture = Fixture::with_store(builder, memory, store.clone(), settings).await;
    let run = fixture.trigger("").await.id();
    fixture.webhooks.run_until_idle().await.unwrap();
    clock.set(clock.now() + 2 * DAY);
    store.always(&["prune"], Fault::Fails);
    let options = Faulty::with_slots(1).with_threads(false).with_prune_every(MINUTE);
    let workers = fixture.webhooks.start_workers(options);
    tokio::time::sleep(10 * MINUTE).await;
    assert!(!is_removed(&fixture.webhooks, run).await);
    store.heal();
    tokio::time::sleep(2 * MINUTE).await;
    assert!(is_removed(&fixture.webhooks, run).await);
    workers.shutdown(PATIENCE).await;
}

/// Executor that cannot forget a run.
struct Remembering {
    executor: ScriptedExecutor,
    panics: bool,
}

#[async_trait::async_trait]
impl Executor for Remembering {
    async fn list(&self, cursor: Option<String>) -> Result<WorkflowPage, ExecutorError> {
        self.executor.list(cursor).await
    }

    async fn describe(&self, workflow: &WorkflowKey) -> Result<Option<Arc<Workflow>>, ExecutorError> {
        self.executor.describe(workflow).await
    }

    async fn execute(&self, context: RunContext) -> Result<RunOutput, ExecuteError> {
        self.executor.execute(context).await
    }

    async fn discard(&self, _runs: &[RunId]) -> Result<(), ExecutorError> {
        assert!(!self.panics, "told to");
        Err(ExecutorError::new("its files are gone"))
    }
}

#[tokio::test]
async fn an_executor_that_fails_or_panics_at_forgetting_runs_keeps_none_of_them() {
    for panics in [false, true] {
        let clock = TestClock::starting_at(std::time::SystemTime::now());
        let executor = Remembering { executor: ScriptedExecutor::new([sales_workflow()]), panics };
        let builder = Webhooks::builder().store(MemoryStore::new()).executor(executor).clock(clock.clone());
        let webhooks = builder.token_key(webhook_core::token::TokenKey::generate()).build().await.unwrap();
        let manage = webhooks.manage();
        let settings = json!({"retention_days": 1});
        let workflow = "report/sales".parse().unwrap();
        let webhook = manage.create_webhook_from_patch(workflow, &settings).await.unwrap().webhook;
        let run = manage.start_run(webhook.id, serde_json::Map::new(), Caller::default()).await.unwrap().run;
        webhooks.run_until_idle().await.unwrap();
        clock.set(clock.now() + 2 * DAY);
        webhooks.run_until_idle().await.unwrap();
        assert!(is_removed(&webhooks, run.id()).await, "panics: {panics}");
        assert_eq!(webhooks.work_health().panics, u64::from(panics));
    }
}
