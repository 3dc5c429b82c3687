//! A server that behaves like Slack's Web API.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::Instant;
use warp::Filter;
use warp::http::Response;

/// Answer to one call.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Error(&'static str),
    RateLimited(u64),
    Redirect(String),
    Said(u16, &'static str),
    Broken,
    Slow(Duration),
}

/// Content of one call.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    pub(crate) message: Value,
    pub(crate) at: Instant,
}

#[derive(Clone)]
pub(crate) struct SlackServer {
    pub(crate) address: SocketAddr,
    answers: Arc<Mutex<VecDeque<Answer>>>,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl SlackServer {
    /// Starts a server that accepts every message after it has given these answers.
    pub(crate) async fn start(answers: impl IntoIterator<Item = Answer>) -> Self {
        let answers = Arc::new(Mutex::new(answers.into_iter().collect::<VecDeque<_>>()));
        let calls = Arc::new(Mutex::new(Vec::new()));
        let (scripted, noted) = (answers.clone(), calls.clone());
        let routes = warp::path::full()
            .and(warp::header::optional("authorization"))
            .and(warp::body::json())
            .then(move |path: warp::path::FullPath, authorization, message| {
                let at = Instant::now();
                noted.lock().push(Call { path: path.as_str().to_owned(), authorization, message, at });
                let answer = scripted.lock().pop_front();
                async move { answered(answer).await }
            });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(warp::serve(routes).incoming(listener).run());
        Self { address, answers, calls }
    }

    pub(crate) fn api(&self) -> String {
        format!("http://{}/api", self.address)
    }

    pub(crate) fn answer_next(&self, answer: Answer) {
        self.answers.lock().push_back(answer);
    }

    /// Waits for the first `count` calls.
    pub(crate) async fn calls(&self, count: usize) -> Vec<Call> {
        let waiting = async {
            while self.calls.lock().len() < count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("Slack is called");
        self.calls.lock().clone()
    }
}

async fn answered(answer: Option<Answer>) -> Response<String> {
    let ok = json!({"ok": true, "ts": "1.2"}).to_string();
    match answer {
        None => Response::new(ok),
        Some(Answer::Error(error)) => Response::new(json!({"ok": false, "error": error}).to_string()),
        Some(Answer::RateLimited(seconds)) => {
            let builder = Response::builder().status(429).header("retry-after", seconds);
            builder.body(json!({"ok": false, "error": "ratelimited"}).to_string()).unwrap()
        }
        Some(Answer::Redirect(to)) => {
            Response::builder().status(307).header("location", to).body(String::new()).unwrap()
        }
        Some(Answer::Said(status, text)) => Response::builder().status(status).body(text.to_owned()).unwrap(),
        Some(Answer::Broken) => Response::builder().status(500).body("<html>".to_owned()).unwrap(),
        Some(Answer::Slow(pause)) => {
            tokio::time::sleep(pause).await;
            Response::new(ok)
        }
    }
}
