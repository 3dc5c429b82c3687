//! Tests of reading runs as a caller.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use webhook_core::executor::{
    ArtifactContent, ExecuteError, Executor, ExecutorError, RunContext, RunOutput, Workflow, WorkflowPage,
};
use webhook_core::id::{RunId, WorkflowKey};
use webhook_core::parameters::ParameterBlocks;
use webhook_testing::{ScriptedExecutor, Step};

use crate::front::server::ServerOptions;
use crate::support::{ADMIN, World, content, problem};

#[tokio::test]
async fn a_caller_sees_its_run_without_who_called_and_who_was_told() {
    let world = World::start().await;
    let settings = json!({"notifications": {"email": {"recipients": ["a@example.com"], "on": ["success"]}}});
    let hook = world.hook(settings).await;
    world.executor.script_next([
        Step::Artifact { name: "r 1.html".into(), content_type: "text/html".into(), bytes: b"<p>".to_vec() },
        Step::SucceedWith("sold out".into()),
    ]);
    let call = world.post(&hook.with("count=3")).json(&json!({"password": "hunter2"}));
    let accepted = content(call.send().await.unwrap(), 202).await;
    world.ended(&accepted).await;
    let status = world.get(accepted["status_url"].as_str().unwrap()).bearer_auth(hook.token());
    let expected = json!({
        "id": "ID", "workflow": {"kind": "report", "id": "sales"}, "webhook_id": "ID", "state": "succeeded",
        "attempt": 1, "max_attempts": 1, "interruptions": 0, "retried_from": null,
        "queued_at": "TIME", "started_at": "TIME", "finished_at": "TIME", "due_at": "TIME",
        "parameters": {
            "count": {"value": 3, "source": "query"},
            "password": {"value": "***", "source": "body"},
            "region": {"value": "EMEA", "source": "default"},
        },
        "progress": null, "summary": "sold out",
        "artifacts": [{
            "name": "r 1.html", "content_type": "text/html", "size": 3,
            "url": "BASE/api/v1/report/sales/runs/ID/artifacts/r%201.html",
        }],
        "error": null,
    });
    assert_eq!(world.settled(content(status.send().await.unwrap(), 200).await), expected);
}

#[tokio::test]
async fn a_failed_run_says_why() {
    let world = World::start().await;
    let hook = world.hook(json!({})).await;
    world.executor.script_next([Step::FailFatal("no such table".into())]);
    let call = world.post(&hook.url).header("prefer", "wait=20");
    let answer = content(call.send().await.unwrap(), 200).await;
    assert_eq!(answer["state"], "failed");
    assert_eq!(answer["run"]["error"], json!({"kind": "fatal", "message": "no such table"}));
}

#[tokio::test]
async fn only_the_webhook_of_a_run_may_ask_about_it() {
    let world = World::start_idle().await;
    let (hook, other) = (world.hook(json!({})).await, world.hook(json!({})).await);
    let accepted = content(world.post(&hook.url).send().await.unwrap(), 202).await;
    let status_url = accepted["status_url"].as_str().unwrap();
    for below in ["", "/log", "/artifacts/a"] {
        let url = format!("{status_url}{below}");
        problem(world.get(&url).send().await.unwrap(), 401, "unauthorized").await;
        problem(world.get(&url).bearer_auth(ADMIN).send().await.unwrap(), 401, "unauthorized").await;
        problem(world.get(&url).bearer_auth(other.token()).send().await.unwrap(), 404, "not-found").await;
    }
    let nobody = format!("{}/api/v1/report/sales/runs/nobody", world.base);
    problem(world.get(&nobody).bearer_auth(hook.token()).send().await.unwrap(), 404, "not-found").await;
    let post = world.post(status_url).bearer_auth(hook.token()).send().await.unwrap();
    assert_eq!(post.headers()["allow"], "GET, HEAD");
    problem(post, 405, "method-not-allowed").await;
}

#[tokio::test]
async fn a_log_is_read_from_an_offset_on() {
    let world = World::start().await;
    let hook = world.hook(json!({})).await;
    world.executor.script_next([Step::Log("first".into()), Step::Log("second".into())]);
    let call = world.post(&hook.url).header("prefer", "wait=20");
    let run = content(call.send().await.unwrap(), 200).await;
    let url = format!("{}/log", run["status_url"].as_str().unwrap());
    let response = world.get(&url).bearer_auth(hook.token()).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8");
    assert_eq!(response.headers()["webhook-log-offset"], "0");
    assert_eq!(response.headers()["webhook-log-end"], "13");
    assert_eq!(response.text().await.unwrap(), "first\nsecond\n");
    let rest = world.get(&format!("{url}?offset=6")).bearer_auth(hook.token()).send().await.unwrap();
    assert_eq!(rest.headers()["webhook-log-offset"], "6");
    assert_eq!(rest.text().await.unwrap(), "second\n");
    let bad = world.get(&format!("{url}?offset=x")).bearer_auth(hook.token()).send().await.unwrap();
    let bad = problem(bad, 422, "settings-invalid").await;
    assert_eq!(bad["errors"][0]["field"], "offset");
}

#[tokio::test]
async fn an_artifact_comes_without_any_trust() {
    let world = World::start().await;
    let hook = world.hook(json!({})).await;
    let script = "<script>alert(1)</script>";
    let artifact = |name: &str, content_type: &str| Step::Artifact {
        name: name.into(),
        content_type: content_type.into(),
        bytes: script.into(),
    };
    world.executor.script_next([artifact("r.html", "text/html"), artifact("a/b.svg", "image/svg+xml")]);
    let call = world.post(&hook.url).header("prefer", "wait=20");
    let answer = content(call.send().await.unwrap(), 200).await;
    let urls = answer["run"]["artifacts"].as_array().unwrap();
    for (place, content_type, disposition) in [
        (0, "text/html", "inline; filename=\"r.html\""),
        (1, "image/svg+xml", "attachment; filename=\"b.svg\""),
    ] {
        let url = urls[place]["url"].as_str().unwrap();
        let response = world.get(url).bearer_auth(hook.token()).send().await.unwrap();
        let policy = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:";
        assert_eq!(response.headers()["content-security-policy"], policy);
        assert_eq!(response.headers()["content-type"], content_type);
        assert_eq!(response.headers()["content-disposition"], disposition);
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
        assert_eq!(response.text().await.unwrap(), script);
        let head = world.client.request(Method::HEAD, url).bearer_auth(hook.token()).send().await.unwrap();
        assert_eq!(head.headers()["content-length"], script.len().to_string());
        assert_eq!(content(head, 200).await, json!(null));
    }
    let nothing = format!("{}/artifacts/passwd", answer["status_url"].as_str().unwrap());
    problem(world.get(&nothing).bearer_auth(hook.token()).send().await.unwrap(), 404, "not-found").await;
}

/// Opens artifacts only when the test lets it, and counts the requests for them.
struct SlowToOpen {
    inner: ScriptedExecutor,
    asked: Arc<Semaphore>,
    opening: Arc<Semaphore>,
}

#[async_trait::async_trait]
impl Executor for SlowToOpen {
    async fn list(&self, cursor: Option<String>) -> Result<WorkflowPage, ExecutorError> {
        self.inner.list(cursor).await
    }
    async fn describe(&self, workflow: &WorkflowKey) -> Result<Option<Arc<Workflow>>, ExecutorError> {
        self.inner.describe(workflow).await
    }
    async fn execute(&self, context: RunContext) -> Result<RunOutput, ExecuteError> {
        self.inner.execute(context).await
    }
    async fn artifact(&self, run: RunId, name: &str) -> Result<Option<ArtifactContent>, ExecutorError> {
        self.asked.add_permits(1);
        self.opening.acquire().await.unwrap().forget();
        self.inner.artifact(run, name).await
    }
    async fn discard(&self, runs: &[RunId]) -> Result<(), ExecutorError> {
        self.inner.discard(runs).await
    }
}

#[tokio::test]
async fn many_reads_with_one_token_wait_for_each_other_and_hold_up_nobody_elses() {
    let workflow = Workflow::new("report/sales".parse().unwrap(), "Sales", ParameterBlocks::default());
    let inner = ScriptedExecutor::new([workflow]);
    let (asked, opening) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let executor = SlowToOpen { inner: inner.clone(), asked: asked.clone(), opening: opening.clone() };
    let world = World::start_with(|builder| builder.executor(executor), ServerOptions::default(), true).await;
    let (busy, other) = (world.hook(json!({})).await, world.hook(json!({})).await);
    inner.script_next([Step::Artifact {
        name: "a".into(),
        content_type: "text/plain".into(),
        bytes: b"b".to_vec(),
    }]);
    let call = world.post(&busy.url).header("prefer", "wait=20");
    let run = content(call.send().await.unwrap(), 200).await;
    let status_url = run["status_url"].as_str().unwrap().to_owned();
    let mut reads = JoinSet::new();
    for _ in 0..100 {
        let read = world.get(&format!("{status_url}/artifacts/a")).bearer_auth(busy.token());
        reads.spawn(async move { read.send().await.unwrap() });
    }
    let _four = asked.acquire_many(4).await.unwrap();

    let other_run = content(world.post(&other.url).send().await.unwrap(), 202).await;
    let started = Instant::now();
    let read = world.get(other_run["status_url"].as_str().unwrap()).bearer_auth(other.token());
    content(read.send().await.unwrap(), 200).await;
    world.managed_run(&run).await;
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());

    for _ in 0..96 {
        let refused = reads.join_next().await.unwrap().unwrap();
        assert_eq!(refused.headers()["retry-after"], "1");
        let refused = problem(refused, 429, "rate-limited").await;
        assert!(refused["detail"].as_str().unwrap().contains("are being read"), "{refused}");
    }
    assert_eq!(asked.available_permits(), 0, "only four were under way");
    opening.add_permits(4);
    for answer in reads.join_all().await {
        assert_eq!(answer.text().await.unwrap(), "b");
    }
    opening.add_permits(1);
    let again = world.get(&format!("{status_url}/artifacts/a")).bearer_auth(busy.token());
    assert_eq!(again.send().await.unwrap().status(), 200);
}
