//! A stream of events that goes on at another server of the same database.

use std::time::Duration;

use serde_json::Value;
use webhook_testing::postgres::PrivatePostgres;

use crate::server::Server;

/// Upper bound on the time of one step, which only a defect exceeds.
const PATIENCE: Duration = Duration::from_secs(60);

/// An event as a client receives it.
#[derive(Debug, Clone, PartialEq)]
struct Received {
    name: String,
    id: String,
    data: Value,
}

impl Received {
    fn is_end_of(&self, run: &str) -> bool {
        self.data["id"] == run && !self.data["finished_at"].is_null()
    }
}

/// A stream of the events of runs at one server.
struct Stream {
    response: reqwest::Response,
    text: String,
}

impl Stream {
    async fn open(server: &Server, last: Option<&str>) -> Self {
        let client = reqwest::Client::new();
        let request = client.get(format!("{}/events", server.api())).bearer_auth(server.admin_token());
        let request = last.into_iter().fold(request, |request, last| request.header("last-event-id", last));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        let mut stream = Self { response, text: String::new() };
        // From the first block on, nothing is missed.
        stream.block().await;
        stream
    }

    async fn block(&mut self) -> String {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                return block;
            }
            let chunk = self.response.chunk().await.unwrap().expect("the stream ends");
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// Returns the events up to the end of a run, without those of the call log.
    async fn until_end_of(&mut self, run: &str) -> Vec<Received> {
        tokio::time::timeout(PATIENCE, self.read_until_end_of(run)).await.expect("its end does not come")
    }

    async fn read_until_end_of(&mut self, run: &str) -> Vec<Received> {
        let mut received: Vec<Received> = Vec::new();
        while !received.last().is_some_and(|event| event.is_end_of(run)) {
            let block = self.block().await;
            let field =
                |name: &str| block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            let (Some(name), Some(id), Some(data)) = (field("event"), field("id"), field("data")) else {
                continue;
            };
            if name != "calls" {
                let data = serde_json::from_str(data).unwrap();
                received.push(Received { name: name.to_owned(), id: id.to_owned(), data });
            }
        }
        received
    }
}

fn start(folder: &std::path::Path, name: &str, store: &str) -> Server {
    let (key, workflows) = (folder.join("shared.key"), folder.join("workflows"));
    let arguments = [
        ["--store", store],
        ["--token-key", key.to_str().unwrap()],
        ["--workflows", workflows.to_str().unwrap()],
        ["--name", name],
    ];
    Server::start(&folder.join(name), &arguments.concat())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_comes_back_at_another_server_misses_nothing_and_is_not_reset() {
    let Some(database) = PrivatePostgres::start(&["fsync=off"]) else { return };
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("workflows")).unwrap();
    let workflow = "kind = 'task'\nid = 'nothing'\ntitle = 'Nothing'\n[noop]\n";
    std::fs::write(folder.path().join("workflows/nothing.toml"), workflow).unwrap();
    let store = database.url();
    let one = start(folder.path(), "one", &store);
    let other = start(folder.path(), "other", &store);
    let url = one.webhook_of("task", "nothing").await;
    let client = reqwest::Client::new();
    let call = async || {
        let answer: Value = client.post(&url).send().await.unwrap().json().await.unwrap();
        answer["run_id"].as_str().unwrap().to_owned()
    };

    let mut stream = Stream::open(&one, None).await;
    let first = call().await;
    let seen = stream.until_end_of(&first).await;
    drop(stream);
    // While the client is away, and no client reads at the other server.
    let second = call().await;
    for (place, last) in seen.iter().enumerate() {
        let mut stream = Stream::open(&other, Some(&last.id)).await;
        let rest = stream.until_end_of(&second).await;
        assert!(rest.iter().all(|event| event.name == "run"), "{rest:?}");
        let of_second = rest.iter().position(|event| event.data["id"] == *second).unwrap();
        assert_eq!(rest[..of_second], seen[place + 1..], "after event {place}");
        assert_eq!(rest[of_second..].len(), seen.len(), "each state of the second run");
    }
    // The way back, also with what only the other server's clients have seen.
    let mut stream = Stream::open(&other, Some(&seen[0].id)).await;
    let there = stream.until_end_of(&second).await;
    let mut stream = Stream::open(&one, Some(&there[0].id)).await;
    assert_eq!(stream.until_end_of(&second).await, there[1..]);
    one.stop();
    other.stop();
}
