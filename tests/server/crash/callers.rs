//! Callers that follow the documentation: each call has an idempotency key and is repeated until it is
//! answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::{Client, StatusCode};
use serde_json::Value;
use tokio::task::JoinSet;

use super::ledger::Ledger;
use super::scene::client;

/// Upper bound on the time without an answer to one call, restarts included.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause of a caller that got no answer.
const PAUSE: Duration = Duration::from_millis(10);

/// Running callers, each with its own persistent connection.
pub(crate) struct Callers {
    stopping: Arc<AtomicBool>,
    tasks: JoinSet<Ledger>,
}

/// Plan of the callers' work.
#[derive(Clone)]
pub(crate) struct Plan {
    /// URLs of the webhooks, each with the relative frequency of its calls.
    pub(crate) webhooks: Vec<(String, u32)>,
    /// Upper bound on the pause between two calls of one caller.
    pub(crate) longest_pause: Duration,
    pub(crate) seed: u64,
}

impl Callers {
    pub(crate) fn start(count: u64, plan: &Plan) -> Self {
        let stopping = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for number in 0..count {
            let caller = Caller {
                number,
                client: client(),
                plan: plan.clone(),
                random: StdRng::seed_from_u64(plan.seed.wrapping_add(number)),
                ledger: Ledger::default(),
                answered: Vec::new(),
            };
            tasks.spawn(caller.call_until(stopping.clone()));
        }
        Self { stopping, tasks }
    }

    /// Lets every caller wait for the answer to its last call, and returns the answers.
    pub(crate) async fn stop(mut self) -> Ledger {
        self.stopping.store(true, Ordering::Relaxed);
        let mut ledger = Ledger::default();
        while let Some(own) = self.tasks.join_next().await {
            ledger.add(own.unwrap());
        }
        ledger
    }
}

struct Caller {
    number: u64,
    client: Client,
    plan: Plan,
    random: StdRng,
    ledger: Ledger,
    /// Answered calls: key and URL.
    answered: Vec<(String, String)>,
}

/// Outcome of one call.
enum Answer {
    Accepted { run: String, replayed: bool },
    Later,
    Other(String),
}

impl Caller {
    async fn call_until(mut self, stopping: Arc<AtomicBool>) -> Ledger {
        for count in 0_u64.. {
            if stopping.load(Ordering::Relaxed) {
                break;
            }
            let key = format!("caller-{}-call-{count}", self.number);
            let url = self.some_webhook();
            self.call_until_answered(&key, &url).await;
            self.answered.push((key, url));
            // Some answered calls are repeated: the last one, or an old one.
            if self.random.random_ratio(1, 8) {
                let repeated = match self.random.random_ratio(1, 2) {
                    true => self.answered.len() - 1,
                    false => self.random.random_range(0..self.answered.len()),
                };
                let (key, url) = self.answered[repeated].clone();
                self.call_until_answered(&key, &url).await;
            }
            let pause = self.random.random_range(Duration::ZERO..=self.plan.longest_pause);
            tokio::time::sleep(pause).await;
        }
        self.ledger
    }

    fn some_webhook(&mut self) -> String {
        let all: u32 = self.plan.webhooks.iter().map(|webhook| webhook.1).sum();
        let mut left = self.random.random_range(0..all);
        for (url, weight) in &self.plan.webhooks {
            if left < *weight {
                return url.clone();
            }
            left -= weight;
        }
        unreachable!("the weights add up")
    }

    async fn call_until_answered(&mut self, key: &str, url: &str) {
        let started = Instant::now();
        loop {
            self.ledger.calls += 1;
            match call(&self.client, url, key).await {
                Ok(Answer::Accepted { run, replayed }) => {
                    return self.ledger.accepted(key, &run, replayed);
                }
                Ok(Answer::Other(answer)) => return self.ledger.unexpected.push(format!("{key}: {answer}")),
                Ok(Answer::Later) => self.ledger.refused += 1,
                Err(_) => self.ledger.broken += 1,
            }
            if started.elapsed() > PATIENCE {
                return self.ledger.unexpected.push(format!("{key}: no answer within {PATIENCE:?}"));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Calls once. The key is a parameter too, so the list of runs shows it.
async fn call(client: &Client, url: &str, key: &str) -> reqwest::Result<Answer> {
    let answer = client.post(format!("{url}&key={key}")).header("idempotency-key", key).send().await?;
    let status = answer.status();
    let replayed = answer.headers().contains_key("idempotency-replayed");
    let body = answer.text().await?;
    Ok(match status {
        StatusCode::ACCEPTED => match serde_json::from_str::<Value>(&body) {
            Ok(Value::Object(accepted)) if accepted["run_id"].is_string() => {
                let run = accepted["run_id"].as_str().unwrap_or_default().to_owned();
                Answer::Accepted { run, replayed }
            }
            _ => Answer::Other(format!("202 with {body}")),
        },
        StatusCode::SERVICE_UNAVAILABLE => Answer::Later,
        status => Answer::Other(format!("{status} with {body}")),
    })
}

/// Calls with this key until the run is known, restarts included, and returns the run.
pub(crate) async fn run_of(client: &Client, url: &str, key: &str) -> String {
    let called = async {
        loop {
            if let Ok(Answer::Accepted { run, .. }) = call(client, url, key).await {
                return run;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(PATIENCE, called).await.expect("the call is answered")
}
