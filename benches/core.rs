//! The pure parts on the path of every call, and the store operations behind them.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use webhook_core::id::{RunId, WebhookId};
use webhook_core::memory::MemoryStore;
use webhook_core::parameters::{
    ParameterBlock, ParameterBlocks, ParameterLimits, ParameterType, merge, parse_body, parse_query,
};
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

fn parameters(criterion: &mut Criterion) {
    let blocks = ParameterBlocks::new(vec![
        ParameterBlock::new("date", ParameterType::Date).with_default("2026-01-31"),
        ParameterBlock::new("region", ParameterType::Choice).with_choices(["EMEA", "APAC", "AMER"]),
        ParameterBlock::new("rows", ParameterType::Integer),
    ])
    .expect("the blocks are valid");
    let limits = ParameterLimits::default();
    let query = "token=whk_0&date=2026-02-01&region=APAC&note=a%20b+c";
    let body = br#"{"rows": 500, "region": "AMER", "tags": ["a", "b"]}"#;
    criterion.bench_function("parameters/query-body-merge", |bencher| {
        bencher.iter(|| {
            let query = parse_query(black_box(query)).expect("a good query");
            let body = parse_body(Some("application/json"), black_box(body), &limits).expect("a good body");
            merge(&blocks, &query.parameters, &body, false, &limits).expect("good parameters").parameters
        });
    });
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
                        Settlement::new(claim.run.id, claim.run.fence, outcome(), SystemTime::now())
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

criterion_group!(benches, tokens, parameters, stores);
criterion_main!(benches);
