//! Events of runs and calls as a stream: server-sent events (WHATWG HTML living standard, section 9.2).
//!
//! An answer holds no queue. When the connection can take more, its body reads the next events from the service's own
//! bounded memory. So a client that does not read costs one frame. It gets a `reset` when the events that it missed
//! are no longer kept.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body::Frame;
use http_body_util::StreamBody;
use serde_json::json;
use sync_wrapper::SyncStream;
use tokio::time::Instant;
use webhook_core::error::chain;
use webhook_core::events::{Event, EventCursor};
use webhook_core::id::{RunId, WorkflowKey};
use webhook_core::manage::ManagementError;

use crate::contract::fields;
use crate::contract::problem::Problem;
use crate::frames::write;
use crate::headers;
use crate::request::head::Head;
use crate::request::query::QueryFields;
use crate::response::answer::Answer;
use crate::response::body::ResponseBody;
use crate::shutdown::ShutdownSignal;
use crate::state::State;

/// Longest silence of a stream: proxies close silent connections, often after 60 s.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Pause before a client reconnects, in milliseconds.
const COME_BACK_MS: u32 = 2_000;
/// Bytes that are handed to a connection at once, give or take one event.
const FRAME_BYTES: usize = 64 * 1024;
/// Shortest pause between two frames of one client. After a silence, an event is sent at once.
///
/// Events in between are sent together, so a busy service does not wake every listener for every event.
const GATHER: Duration = Duration::from_millis(20);

/// Handles `GET /events`: events of all runs and calls, of one run (`?run=`), or of one workflow's (`?workflow=kind/id`).
///
/// Without `Last-Event-ID`, the stream begins with the next event. With an unknown id, or if events after it are no
/// longer kept, it begins with a `reset`.
pub(crate) async fn watch(state: &Arc<State>, head: &Head) -> Result<Answer, Problem> {
    let mut query = QueryFields::read(&head.query, state.limits().query_bytes)?;
    let filter = Filter { workflow: query.take(&fields::WORKFLOW), run: query.take(&fields::RUN_OF_EVENTS) };
    query.finish()?;
    let present = state.webhooks.events_since(None).await.map_err(ManagementError::from)?.cursor;
    let place = Place::of(&head.headers);
    let cursor = if let Place::After(cursor) = place { cursor } else { present };
    let mut first = format!("retry: {COME_BACK_MS}\nid: {cursor}\n\n").into_bytes();
    if matches!(place, Place::Unknown) {
        write(&mut first, "reset", cursor, &json!({}));
    }
    let stop = head.shutdown.clone();
    let reader = Reader { state: state.clone(), filter, cursor, stop, not_before: Instant::now() };
    let following = stream::unfold(reader, |mut reader| async {
        let frame = reader.next().await?;
        Some((frame, reader))
    });
    let frames = stream::once(async { first }).chain(following);
    let frames = frames.map(|frame| Ok::<_, io::Error>(Frame::data(Bytes::from(frame))));
    let mut answer = Answer::new(ResponseBody::streamed(StreamBody::new(SyncStream::new(frames))));
    *answer.status_mut() = StatusCode::OK;
    let answered = answer.headers_mut();
    answered.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    // A reverse proxy such as nginx must pass events on at once.
    answered.insert(headers::ACCEL_BUFFERING, HeaderValue::from_static("no"));
    Ok(answer)
}

/// Place at which a client continues.
enum Place {
    /// The next event.
    Present,
    /// The event after this one.
    After(EventCursor),
    /// The event after one that this service cannot have sent.
    Unknown,
}

impl Place {
    fn of(headers: &HeaderMap) -> Self {
        match headers.get(headers::LAST_EVENT_ID).map(HeaderValue::as_bytes) {
            None | Some([]) => Self::Present,
            Some(id) => {
                let cursor = std::str::from_utf8(id).ok().and_then(|id| id.parse().ok());
                cursor.map_or(Self::Unknown, Self::After)
            }
        }
    }
}

/// Runs whose events are asked for.
#[derive(Debug, Default)]
struct Filter {
    workflow: Option<WorkflowKey>,
    run: Option<RunId>,
}

impl Filter {
    fn takes(&self, event: &Event) -> bool {
        self.workflow.as_ref().is_none_or(|workflow| *workflow == event.workflow)
            && self.run.is_none_or(|run| event.run == Some(run))
    }
}

/// Place of one client in the events.
struct Reader {
    state: Arc<State>,
    filter: Filter,
    cursor: EventCursor,
    stop: Option<ShutdownSignal>,
    /// Earliest time of the next frame.
    not_before: Instant,
}

impl Reader {
    /// Returns the next frame, or `None` when the stream ends: at shutdown, or if events cannot be read.
    async fn next(&mut self) -> Option<Vec<u8>> {
        let silent_until = Instant::now() + HEARTBEAT;
        tokio::select! {
            () = tokio::time::sleep_until(self.not_before) => {}
            () = self.stopping() => return None,
        }
        loop {
            let events = tokio::select! {
                events = self.state.webhooks.events_since(Some(self.cursor)) => events,
                () = self.stopping() => return None,
                () = tokio::time::sleep_until(silent_until) => return Some(self.heartbeat()),
            };
            let events = match events {
                Ok(events) => events,
                Err(error) => {
                    tracing::error!(error = chain(&error), "events cannot be read");
                    return None;
                }
            };
            let mut frame = Vec::new();
            if events.reset {
                self.cursor = events.cursor;
                write(&mut frame, "reset", events.cursor, &json!({}));
            }
            for event in &events.items {
                // The rest is read again for the next frame: nothing is kept for one client.
                if frame.len() >= FRAME_BYTES {
                    break;
                }
                if self.filter.takes(event) {
                    frame.extend_from_slice(&self.state.frames.of(event, self.state.links()));
                }
                self.cursor = event.cursor;
            }
            if !frame.is_empty() {
                self.not_before = Instant::now() + GATHER;
                return Some(frame);
            }
        }
    }

    /// Waits until the server shuts down. Without a signal, waits until the service accepts no more calls.
    async fn stopping(&self) {
        match &self.stop {
            Some(signal) => signal.shutting_down().await,
            None => self.state.webhooks.stopped_accepting().await,
        }
    }

    /// Returns a comment, which clients ignore, and the present cursor: a filter may have left out many events.
    fn heartbeat(&self) -> Vec<u8> {
        format!(":\nid: {}\n\n", self.cursor).into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use serde_json::Value;
    use webhook_core::Webhooks;
    use webhook_core::executor::Workflow;
    use webhook_core::id::WebhookId;
    use webhook_core::memory::MemoryStore;
    use webhook_core::parameters::ParameterBlocks;
    use webhook_core::run::Caller;
    use webhook_testing::ScriptedExecutor;

    use http::{HeaderMap, Method};

    use super::*;
    use crate::access::gate::AdminAccess;
    use crate::contract::route::Route;
    use crate::request::head::RequestHead;
    use crate::shutdown::ShutdownSource;

    async fn state() -> Arc<State> {
        let workflow = Workflow::new("report/a".parse().unwrap(), "A", ParameterBlocks::default());
        let executor = ScriptedExecutor::new([workflow]);
        let webhooks =
            Webhooks::builder().store(MemoryStore::new()).executor(executor).build().await.unwrap();
        Arc::new(State::new(webhooks, AdminAccess::Open))
    }

    async fn answer(state: &Arc<State>, stop: Option<ShutdownSignal>) -> ResponseBody {
        let route = Route::of("/admin/api/v1/events").unwrap();
        let request = RequestHead::new(Method::GET, "", HeaderMap::new()).with_shutdown(stop);
        watch(state, &Head { request, route, peer: None, connection: None, id: String::new() })
            .await
            .unwrap()
            .into_body()
    }

    async fn frame(body: &mut ResponseBody) -> Option<String> {
        let frame = body.frame().await?.unwrap().into_data().unwrap();
        Some(String::from_utf8(frame.to_vec()).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_stream_has_a_heartbeat_every_fifteen_seconds() {
        let mut body = answer(&state().await, Some(ShutdownSource::new().signal())).await;
        assert!(frame(&mut body).await.unwrap().starts_with("retry: 2000\nid: "));
        for _ in 0..3 {
            let before = Instant::now();
            assert!(frame(&mut body).await.unwrap().starts_with(":\nid: "));
            assert_eq!(before.elapsed().as_secs(), HEARTBEAT.as_secs());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_server_that_tells_a_stream_ends_when_the_service_accepts_no_more() {
        let state = state().await;
        let mut body = answer(&state, None).await;
        frame(&mut body).await.unwrap();
        state.webhooks.stop_accepting();
        assert_eq!(frame(&mut body).await, None);
    }

    /// Starts a service with a webhook, and returns the parameters of calls with a note of so many bytes.
    async fn noted(state: &Arc<State>, bytes: usize) -> (WebhookId, serde_json::Map<String, Value>) {
        let create =
            state.webhooks.manage().create_webhook("report/a".parse().unwrap(), Default::default()).await;
        let note = serde_json::Map::from_iter([("note".to_owned(), Value::from("x".repeat(bytes)))]);
        (create.unwrap().webhook.id, note)
    }

    #[tokio::test]
    async fn a_frame_is_bounded_and_the_next_goes_on_where_it_ended() {
        let state = state().await;
        let mut body = answer(&state, None).await;
        frame(&mut body).await.unwrap();
        let (webhook, note) = noted(&state, 100_000).await;
        for _ in 0..100 {
            state.webhooks.manage().start_run(webhook, note.clone(), Caller::default()).await.unwrap();
        }
        let mut events = 0;
        while events < 100 {
            let frame = frame(&mut body).await.unwrap();
            assert!(frame.len() < FRAME_BYTES + 4_000, "{}", frame.len());
            assert_eq!(frame.matches("\"truncated\":true}}").count(), frame.matches("event: run\n").count());
            events += frame.matches("event: run\n").count();
        }
        assert_eq!(events, 100);
    }

    #[tokio::test]
    async fn an_event_is_written_once_for_all_who_listen() {
        let state = state().await;
        let mut bodies = Vec::new();
        for _ in 0..50 {
            let mut body = answer(&state, None).await;
            frame(&mut body).await.unwrap();
            bodies.push(body);
        }
        let (webhook, note) = noted(&state, 10).await;
        for _ in 0..10 {
            state.webhooks.manage().start_run(webhook, note.clone(), Caller::default()).await.unwrap();
        }
        for body in &mut bodies {
            assert_eq!(frame(body).await.unwrap().matches("event: run\n").count(), 10);
        }
        assert_eq!(state.frames.written(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn what_happens_in_quick_succession_is_sent_together() {
        let state = state().await;
        let mut body = answer(&state, None).await;
        frame(&mut body).await.unwrap();
        let (webhook, note) = noted(&state, 10).await;
        let start = async || {
            state.webhooks.manage().start_run(webhook, note.clone(), Caller::default()).await.unwrap();
        };
        start().await;
        let before = Instant::now();
        assert_eq!(frame(&mut body).await.unwrap().matches("event: run\n").count(), 1);
        assert_eq!(before.elapsed(), Duration::ZERO, "the first is sent at once");
        for _ in 0..5 {
            start().await;
        }
        assert_eq!(frame(&mut body).await.unwrap().matches("event: run\n").count(), 5);
        assert_eq!(before.elapsed(), GATHER);
    }
}
