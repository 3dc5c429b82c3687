//! Tests of events as a client receives them.

use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use webhook_core::run::Caller;
use webhook_testing::Step;

use crate::front::server::ServerOptions;
use crate::support::{ADMIN, NOBODY, World, content, named, problem};

/// Upper bound on the time of one step, which only a defect exceeds.
const PATIENCE: Duration = Duration::from_secs(20);

/// An event as a client receives it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Received {
    pub(crate) name: String,
    id: String,
    pub(crate) data: Value,
}

/// Reads a stream by the standard: blocks of lines, of which those without data only advance the id.
pub(crate) struct Stream {
    response: Response,
    text: String,
    id: String,
}

impl Stream {
    pub(crate) async fn open(request: RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        let mut stream = Self { response, text: String::new(), id: String::new() };
        // From the first block on, nothing is missed.
        let first = stream.block().await.unwrap();
        assert!(first.starts_with("retry: "), "{first}");
        stream
    }

    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                if let Some(id) = field(&block, "id") {
                    self.id = id.to_owned();
                }
                return Some(block);
            }
            let chunk = tokio::time::timeout(PATIENCE, self.response.chunk()).await.expect("nothing comes");
            self.text.push_str(std::str::from_utf8(&chunk.unwrap()?).unwrap());
        }
    }

    /// Returns the next event of a run, or `None` when the stream has ended.
    async fn next(&mut self) -> Option<Received> {
        loop {
            let event = self.next_of_any().await?;
            // Calls are written together after a while, so their place among the others is not known.
            if event.name != "calls" {
                return Some(event);
            }
        }
    }

    /// Returns the next event, or `None` when the stream has ended.
    pub(crate) async fn next_of_any(&mut self) -> Option<Received> {
        loop {
            let block = self.block().await?;
            if let Some(data) = field(&block, "data") {
                let name = field(&block, "event").unwrap().to_owned();
                return Some(Received {
                    name,
                    id: self.id.clone(),
                    data: serde_json::from_str(data).unwrap(),
                });
            }
        }
    }

    /// Returns all events until a run has ended.
    async fn until_end(&mut self) -> Vec<Received> {
        let mut received = Vec::new();
        loop {
            let event = self.next().await.unwrap();
            let ended = !event.data["finished_at"].is_null();
            received.push(event);
            if ended {
                return received;
            }
        }
    }
}

fn field<'a>(block: &'a str, name: &str) -> Option<&'a str> {
    block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

pub(crate) fn events(world: &World, query: &str) -> RequestBuilder {
    world.admin(Method::GET, &format!("/events{query}"))
}

#[tokio::test]
async fn a_run_is_seen_from_its_queueing_to_its_end_as_the_management_lists_it() {
    let world = World::start().await;
    let settings = json!({"notifications": {"email": {"recipients": ["a@example.com"], "on": ["success"]}}});
    let hook = world.hook(settings).await;
    let mut stream = Stream::open(events(&world, "")).await;
    for (name, value) in
        [("content-type", "text/event-stream"), ("cache-control", "no-store"), ("x-accel-buffering", "no")]
    {
        assert_eq!(stream.response.headers()[name], value, "{name}");
    }
    let progress = Step::Progress(0.5, "half way".into());
    world.executor.script_next([Step::Log("one".into()), progress, Step::WaitForRelease]);
    let call = world.post(&hook.url).json(&json!({"password": "hunter2"}));
    let accepted = content(call.send().await.unwrap(), 202).await;
    let mut received = Vec::new();
    while received.len() < 4 {
        received.push(stream.next().await.unwrap());
    }
    world.executor.release(1);
    received.extend(stream.until_end().await);
    let seen: Vec<_> = received.iter().map(|event| (event.name.as_str(), &event.data["state"])).collect();
    let none = &Value::Null;
    assert_eq!(
        seen,
        [
            ("run", &json!("queued")),
            ("run", &json!("running")),
            ("log", none),
            ("progress", none),
            ("run", &json!("succeeded")),
        ]
    );
    let of_run = json!({
        "run_id": accepted["run_id"], "workflow": {"kind": "report", "id": "sales"}, "webhook_id": hook.id.to_string(),
    });
    let mut log = of_run.clone();
    log["lines"] = json!(["one"]);
    assert_eq!(received[2].data, log);
    let mut progress = of_run;
    progress["progress"] = json!({"fraction": 0.5, "message": "half way"});
    assert_eq!(received[3].data, progress);
    assert_eq!(received[4].data["parameters"]["password"]["value"], "***");
    world.notifier.delivered(1).await;
    let path = format!("/runs/{}", accepted["run_id"].as_str().unwrap());
    let mut listed = content(world.admin(Method::GET, &path).send().await.unwrap(), 200).await;
    let mut told = received[4].data.clone();
    // The outcome of the notification may have been recorded in between.
    for run in [&mut listed, &mut told] {
        assert_eq!(run["deliveries"].as_array_mut().unwrap().drain(..).count(), 1);
    }
    assert_eq!(told, listed);
}

#[tokio::test]
async fn a_client_goes_on_after_the_last_event_it_saw() {
    let world = World::start().await;
    let hook = world.hook(json!({})).await;
    let mut stream = Stream::open(events(&world, "")).await;
    let start = stream.id.clone();
    content(world.post(&hook.url).send().await.unwrap(), 202).await;
    let received = stream.until_end().await;
    assert_eq!(received.len(), 3);
    drop(stream);
    for (last, expected) in [(&start, &received[..]), (&received[0].id, &received[1..])] {
        let mut stream = Stream::open(events(&world, "").header("last-event-id", last)).await;
        assert_eq!(&stream.until_end().await, expected);
    }
}

#[tokio::test]
async fn who_missed_something_is_told_to_reload_and_then_hears_what_is_new() {
    let (world, elsewhere) = (World::start_idle().await, World::start_idle().await);
    let hook = world.hook(json!({})).await;
    let foreign = Stream::open(events(&elsewhere, "")).await.id;
    let later = format!("{}9", Stream::open(events(&world, "")).await.id);
    for unknown in [&foreign, &later, "of another kind", "\u{e9}"] {
        let request = events(&world, "").header("last-event-id", unknown.as_bytes());
        let mut stream = Stream::open(request).await;
        let reset = stream.next().await.unwrap();
        assert_eq!((reset.name.as_str(), &reset.data), ("reset", &json!({})), "{unknown}");
        let accepted = content(world.post(&hook.url).send().await.unwrap(), 202).await;
        assert_eq!(stream.next().await.unwrap().data["id"], accepted["run_id"], "{unknown}");
    }
}

#[tokio::test]
async fn only_what_was_asked_for_is_sent() {
    let world = World::start_idle().await;
    let (sales, train) = (world.hook(json!({})).await, world.hook_of("notebook/train", json!({})).await);
    let mut of_workflow = Stream::open(events(&world, "?workflow=notebook/train")).await;
    content(world.post(&sales.url).send().await.unwrap(), 202).await;
    let wanted = content(world.post(&train.url).send().await.unwrap(), 202).await;
    let wanted = wanted["run_id"].as_str().unwrap();
    let mut of_run = Stream::open(events(&world, &format!("?run={wanted}"))).await;
    let other = content(world.post(&train.url).send().await.unwrap(), 202).await;
    let cancel = world.admin(Method::POST, &format!("/runs/{wanted}/cancel"));
    content(cancel.send().await.unwrap(), 200).await;
    for (run, state) in
        [(wanted, "queued"), (other["run_id"].as_str().unwrap(), "queued"), (wanted, "cancelled")]
    {
        let event = of_workflow.next().await.unwrap();
        assert_eq!((&event.data["id"], &event.data["state"]), (&json!(run), &json!(state)));
    }
    assert_eq!(of_run.next().await.unwrap().data["state"], "cancelled");
}

#[tokio::test]
async fn what_is_asked_wrongly_is_refused() {
    let world = World::start_idle().await;
    for (query, field) in [("?run=7", "run"), ("?workflow=sales", "workflow"), ("?since=1", "since")] {
        let answer = problem(events(&world, query).send().await.unwrap(), 422, "settings-invalid").await;
        assert_eq!(named(&answer)[0].0, field, "{query}");
    }
    let bare = world.get(&format!("{}/admin/api/v1/events", world.base));
    problem(bare.send().await.unwrap(), 401, "unauthorized").await;
    let post = world.admin(Method::POST, "/events").send().await.unwrap();
    assert_eq!(post.headers()["allow"], "GET, HEAD");
    problem(post, 405, "method-not-allowed").await;
    let head = world.admin(Method::HEAD, &format!("/events?run={NOBODY}")).send().await.unwrap();
    assert_eq!(head.headers()["content-type"], "text/event-stream");
    assert_eq!(content(head, 200).await, Value::Null);
}

#[tokio::test]
async fn no_deadline_of_the_server_cuts_a_stream_but_its_shutdown_ends_it() {
    let short = Duration::from_millis(200);
    let options = ServerOptions::default()
        .with_header_deadline(short)
        .with_body_deadline(short)
        .with_idle_deadline(short)
        .with_write_deadline(short);
    let mut world = World::start_with(|builder| builder, options, false).await;
    let hook = world.hook(json!({})).await;
    let mut stream = Stream::open(events(&world, "")).await;
    tokio::time::sleep(4 * short).await;
    content(world.post(&hook.url).send().await.unwrap(), 202).await;
    assert_eq!(stream.next().await.unwrap().data["state"], "queued");
    world.tell_to_stop();
    assert_eq!(stream.next().await, None);
    assert_eq!(world.served().await.cut_off, 0);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_kept_little_for_and_told_to_reload() {
    const RUNS: usize = 5_000;
    let world = World::start_idle().await;
    // One webhook alone may not have so many bytes queued.
    let hooks = [world.hook(json!({})).await, world.hook(json!({})).await];
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    let mut client = socket.connect(world.address).await.unwrap();
    let request =
        format!("GET /admin/api/v1/events HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {ADMIN}\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    let mut taken = vec![0; 1_024];
    let mut seen = String::new();
    while !seen.contains("retry: ") {
        let count = client.read(&mut taken).await.unwrap();
        seen.push_str(std::str::from_utf8(&taken[..count]).unwrap());
    }
    let note = serde_json::Map::from_iter([("note".to_owned(), Value::from("x".repeat(4_000)))]);
    for number in 0..RUNS {
        let hook = &hooks[number % 2];
        world.webhooks.manage().start_run(hook.id, note.clone(), Caller::default()).await.unwrap();
    }
    let mut text = Vec::new();
    let mut buffer = vec![0; 256 * 1024];
    while !String::from_utf8_lossy(&text).contains("event: reset\n") {
        let count = tokio::time::timeout(PATIENCE, client.read(&mut buffer)).await.unwrap().unwrap();
        assert!(count > 0, "the stream ended");
        text.extend_from_slice(&buffer[..count]);
        // The two sockets hold what was sent before.
        assert!(text.len() < 12 * 1024 * 1024, "{} bytes were kept", text.len());
    }
}
