//! Costs of a call before its run is durable, and of the store operations behind it.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use webhook_core::Webhooks;
use webhook_core::calls::{CallFacts, CallOutcome};
use webhook_core::executor::{FnExecutor, RunOutput, Workflow};
use webhook_core::id::{RunId, WebhookId, WorkflowKey};
use webhook_core::intake::{Method, TriggerCall, Triggered};
use webhook_core::memory::MemoryStore;
use webhook_core::parameters::{ParameterBlock, ParameterBlocks, ParameterType};
use webhook_core::run::{Caller, Ending, Run, RunParameters};
use webhook_core::store::{ClaimRequest, Enqueue, Outcome, Settlement, Store};
use webhook_core::token::{Token, TokenDigest};
use webhook_core::webhook::{Webhook, WebhookSettings};
use webhook_sled::SledStore;

fn tokens(criterion: &mut Criterion) {
    let token = Token::generate();
    let digest = token.digest();
    criterion.bench_function("token/verify", |bencher| {
        bencher.iter(|| TokenDigest::of(black_box(token.expose())).matches(&digest));
    });
    criterion.bench_function("token/generate", |bencher| bencher.iter(Token::generate));
}

/// A block of each type that a caller may leave out.
fn blocks() -> ParameterBlocks {
    let block = ParameterBlock::new;
    ParameterBlocks::new(vec![
        block("title", ParameterType::Text).with_default("Sales"),
        block("rows", ParameterType::Integer).with_default(100),
        block("share", ParameterType::Number).with_default(0.5),
        block("draft", ParameterType::Boolean).with_default(false),
        block("day", ParameterType::Date).with_default("2026-01-31"),
        block("since", ParameterType::Datetime).with_default("2026-01-31T08:00:00Z"),
        block("region", ParameterType::Choice).with_choices(["EMEA", "APAC", "AMER"]).with_default("EMEA"),
        block("tags", ParameterType::List).with_default(serde_json::json!(["a", "b"])),
        block("filter", ParameterType::Json).with_default(serde_json::json!({"x": [1, 2]})),
    ])
    .expect("the blocks are valid")
}

/// From the head of a call to its effective parameters, and from there to what a store keeps.
fn calls(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let workflow: WorkflowKey = "report/bench".parse().expect("a workflow");
    let executor =
        FnExecutor::new([Workflow::new(workflow.clone(), "Bench", blocks())], async |_| Ok(RunOutput::new()));
    let building = Webhooks::builder().store(MemoryStore::new()).executor(executor).build();
    let webhooks = runtime.block_on(building).expect("a service");
    let management = webhooks.manage();
    let creating = management.create_webhook(workflow.clone(), WebhookSettings::default());
    let created = runtime.block_on(creating).expect("a webhook");
    let url = created.url;
    let (_, token) = url.expose().split_once('?').expect("a query");
    let mut facts = CallFacts::new("POST", 202, CallOutcome::Accepted);
    facts.address = Some([192, 0, 2, 1].into());
    facts.user_agent = Some("python-requests/2.32.3".into());
    facts.request_id = Some("4bf92f35-77b3-4da6-a3ce-929d0e0e4736");
    facts.content_type = Some("application/json");
    facts.run_id = Some(RunId::from_bytes([1; 16]));
    criterion.bench_function("call/log", |bencher| {
        let _runtime = runtime.enter();
        bencher.iter(|| webhooks.log_call(created.webhook.id, black_box(&facts)));
    });
    let json = Some("application/json");
    let undeclared = r#"{"note": "hello", "attempt": {"number": 2, "of": [3, 4.5]}}"#;
    let kinds = [
        ("defaults", Method::Post, "", None, ""),
        ("query", Method::Get, "&rows=500&region=APAC", None, ""),
        ("json", Method::Post, "", json, r#"{"rows": 500, "region": "APAC"}"#),
        ("json-undeclared", Method::Post, "", json, undeclared),
    ];
    for (name, method, query, content_type, body) in kinds {
        let call = || {
            let mut call = TriggerCall::new(workflow.clone(), method);
            call.query = format!("{token}{query}").into();
            call.content_type = content_type.map(str::to_owned);
            call.dry_run = true;
            call
        };
        let effective = async || {
            let authenticated = webhooks.authenticate(call()).await.expect("the token is right");
            let admitted = webhooks.admit(authenticated).await.expect("the call is permitted");
            match webhooks.trigger(admitted, body.as_bytes()).await.expect("good parameters") {
                Triggered::DryRun { parameters, .. } => parameters,
                other => panic!("{other:?}"),
            }
        };
        criterion.bench_function(&format!("call/{name}"), |bencher| {
            bencher.to_async(&runtime).iter(&effective);
        });
        let parameters = runtime.block_on(effective());
        criterion.bench_function(&format!("seal/{name}"), |bencher| {
            let seal = |parameters| RunParameters::seal(parameters, None, RunId::from_bytes([0; 16]));
            bencher.iter_batched(|| parameters.clone(), seal, BatchSize::SmallInput);
        });
    }
}

fn webhook(now: SystemTime) -> Webhook {
    let workflow = "report/bench".parse().expect("a workflow");
    Webhook::new(
        WebhookId::generate(now),
        workflow,
        WebhookSettings::default(),
        &Token::generate(),
        None,
        now,
    )
}

fn enqueue(webhook: &Webhook) -> Enqueue {
    let now = SystemTime::now();
    let parameters = RunParameters::default();
    let caller = Caller::default();
    Enqueue::new(Run::new(
        RunId::generate(now),
        webhook.workflow.clone(),
        webhook.id,
        parameters,
        1,
        caller,
        now,
    ))
}

/// One run's way through a store at 64 callers: enqueued, claimed, settled.
fn store(criterion: &mut Criterion, name: &str, store: Arc<dyn Store>) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let webhook = webhook(SystemTime::now());
    runtime.block_on(store.create_webhook(webhook.clone())).expect("a webhook");
    let mut group = criterion.benchmark_group(format!("store/{name}"));
    group.throughput(Throughput::Elements(64)).sample_size(30).measurement_time(Duration::from_secs(5));
    group.bench_function("enqueue-claim-settle-64", |bencher| {
        bencher.to_async(&runtime).iter_batched(
            || (0..64).map(|_| enqueue(&webhook)).collect::<Vec<_>>(),
            |requests| {
                let store = store.clone();
                async move {
                    let enqueued = requests.into_iter().map(|request| store.enqueue(request));
                    futures_util::future::try_join_all(enqueued).await.expect("enqueued");
                    let request = ClaimRequest::new(64, Duration::from_secs(30), SystemTime::now());
                    let claims = store.claim(request).await.expect("claimed");
                    let outcome = || Outcome::Ended {
                        ending: Ending::Succeeded { summary: None, artifacts: Vec::new() },
                        deliveries: Vec::new(),
                    };
                    let settle = |claim: &webhook_core::store::Claim| {
                        Settlement::new(claim.run.id(), claim.run.fence(), outcome(), SystemTime::now())
                    };
                    store.settle(claims.iter().map(settle).collect()).await.expect("settled")
                }
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn stores(criterion: &mut Criterion) {
    store(criterion, "memory", Arc::new(MemoryStore::new()));
    let folder = tempfile::tempdir().expect("a folder");
    let sled = SledStore::open(folder.path()).expect("a store");
    store(criterion, "sled-power", Arc::new(sled));
}

criterion_group!(benches, tokens, calls, stores);
criterion_main!(benches);
