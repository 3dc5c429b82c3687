//! Tests that spans name a run from its call to its end.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

#[path = "front/warp.rs"]
mod front;
mod support;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::json;
use tracing::Subscriber;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};

use support::{World, content};

#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<Span>>>);

struct Span {
    id: u64,
    name: String,
    fields: BTreeMap<String, String>,
}

impl Visit for Span {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.fields.insert(field.name().to_owned(), format!("{value:?}"));
    }
}

impl<S: Subscriber> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, _: Context<'_, S>) {
        let name = attributes.metadata().name().to_owned();
        let mut span = Span { id: id.into_u64(), name, fields: BTreeMap::new() };
        attributes.record(&mut span);
        self.0.lock().push(span);
    }
    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        let mut spans = self.0.lock();
        // An id is reused once its span is closed.
        let newest = spans.iter_mut().rev().find(|span| span.id == id.into_u64());
        values.record(newest.unwrap());
    }
}

#[tokio::test]
async fn trigger_attempt_and_settle_name_the_run_and_no_span_holds_the_token() {
    let spans = Spans::default();
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(spans.clone())).unwrap();
    let world = World::start().await;
    let hook = world.hook(json!({})).await;
    let accepted = content(world.post(&hook.url).send().await.unwrap(), 202).await;
    let run = world.ended(&accepted).await;
    let expected = [
        ("run", run.id().to_string()),
        ("workflow", "report/sales".to_owned()),
        ("webhook", hook.id.to_string()),
        ("attempt", "1".to_owned()),
    ];
    let of_run = |name: &str| {
        let spans = spans.0.lock();
        spans.iter().find(|span| span.name == name).map(|span| span.fields.clone())
    };
    for (name, fields) in [("trigger", 3), ("attempt", 4), ("settle", 4)] {
        let expected: BTreeMap<String, String> =
            expected[..fields].iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        // The end of a run is visible a moment before its settling is recorded.
        let started = std::time::Instant::now();
        let seen = loop {
            match of_run(name) {
                Some(seen) => break seen,
                None => assert!(started.elapsed() < Duration::from_secs(20), "no span {name}"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        assert_eq!(seen, expected, "{name}");
    }
    for span in spans.0.lock().iter() {
        assert!(span.fields.values().all(|value| !value.contains("whk_")), "{} {:?}", span.name, span.fields);
    }
}
