//! Reading a request's body within bounds, and draining the rest of it.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, header};
use http_body::Body;
use http_body_util::BodyExt;
use webhook_core::error::BoxError;
use webhook_core::intake::TriggerError;

use crate::capacity::body_budget::{FREE, Turn};
use crate::capacity::shares::Share;
use crate::contract::problem::Problem;
use crate::contract::slug::Slug;

/// Upper bound on the drained bytes. A client reads the answer only after it has sent its body (RFC 9112 section 9.6).
const DRAIN_BYTES: usize = 8 * 1024 * 1024;
/// Upper bound on the time of draining.
const DRAIN_TIME: Duration = Duration::from_secs(2);
/// Default deadline of a body, from its first read.
pub(crate) const READ_TIME: Duration = Duration::from_secs(30);
/// Upper bound on the memory that is reserved for a declared length.
const FIRST_CAPACITY: usize = 64 * 1024;

/// Body of a request. Nothing of it is read before a handler asks.
pub(crate) struct RequestBody<'a> {
    body: Pin<&'a mut (dyn Body<Data = Bytes, Error = BoxError> + Send + 'a)>,
    declared: Option<u64>,
    awaits_continue: bool,
    is_over: bool,
    /// Upper bound on the time for reading it.
    allowed: Duration,
}

impl<'a> RequestBody<'a> {
    pub(crate) fn new(
        body: Pin<&'a mut (dyn Body<Data = Bytes, Error = BoxError> + Send + 'a)>,
        headers: &HeaderMap,
    ) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let declared = text(header::CONTENT_LENGTH).and_then(|length| length.trim().parse().ok());
        let awaits_continue =
            text(header::EXPECT).is_some_and(|expected| expected.trim().eq_ignore_ascii_case("100-continue"));
        let is_over = body.is_end_stream();
        Self { body, declared, awaits_continue, is_over, allowed: READ_TIME }
    }

    /// Sets the time that reading may take.
    pub(crate) fn within(mut self, allowed: Duration) -> Self {
        self.allowed = allowed;
        self
    }

    /// Refuses a body by its declared length, before any of it is read.
    pub(crate) fn check_declared(&self, limit: usize) -> Result<(), Problem> {
        match self.declared {
            Some(length) if length > limit as u64 => Err(TriggerError::BodyTooLarge { limit }.into()),
            _ => Ok(()),
        }
    }

    /// Reads the whole body and counts its bytes. A body that is too slow is refused.
    pub(crate) async fn read(&mut self, limit: usize) -> Result<Vec<u8>, Problem> {
        let (body, _) = self.read_in_turn(limit, None).await?;
        Ok(body)
    }

    /// Reads the whole body of a call and counts its bytes.
    ///
    /// Unless the body is small, this waits for its share of the budget first. The share is held until it is dropped.
    pub(crate) async fn read_in_turn(
        &mut self,
        limit: usize,
        turn: Option<Turn<'_>>,
    ) -> Result<(Vec<u8>, Option<Share>), Problem> {
        self.check_declared(limit)?;
        if self.is_over {
            return Ok((Vec::new(), None));
        }
        let allowed = self.allowed;
        tokio::time::timeout(allowed, self.collect(limit, turn)).await.unwrap_or_else(|_| Err(broken()))
    }

    async fn collect(
        &mut self,
        limit: usize,
        mut turn: Option<Turn<'_>>,
    ) -> Result<(Vec<u8>, Option<Share>), Problem> {
        let most = self.declared.map_or(limit, |length| length as usize);
        let mut share = None;
        if self.declared.is_some()
            && most > FREE
            && let Some(turn) = turn.take()
        {
            share = Some(turn.share(most).await?);
        }
        let mut collected = self.buffer();
        while let Some(bytes) = self.next().await? {
            if collected.len() + bytes.len() > FREE
                && let Some(turn) = turn.take()
            {
                share = Some(turn.share(most).await?);
            }
            append(&mut collected, &bytes, limit)?;
        }
        Ok((collected, share))
    }

    fn buffer(&self) -> Vec<u8> {
        let expected = self.declared.map_or(0, |length| length as usize);
        Vec::with_capacity(expected.min(FIRST_CAPACITY))
    }

    /// Returns whether the body has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Reads and drops the rest, within bounds. Returns whether the body has ended.
    pub(crate) async fn drain(&mut self) -> bool {
        // A client that waits for permission to send its body gets the answer instead (RFC 9110 section
        // 10.1.1).
        if self.is_over || self.awaits_continue {
            return self.is_over;
        }
        let reading = async {
            let mut left = DRAIN_BYTES;
            while let Ok(Some(bytes)) = self.next().await {
                match left.checked_sub(bytes.len()) {
                    Some(rest) => left = rest,
                    None => return,
                }
            }
        };
        // After a time-out, `is_over` is false.
        let _ = tokio::time::timeout(DRAIN_TIME, reading).await;
        self.is_over
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        if self.is_over {
            return Ok(None);
        }
        self.awaits_continue = false;
        loop {
            match self.body.as_mut().frame().await {
                None => {
                    self.is_over = true;
                    return Ok(None);
                }
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "a body broke off");
                    return Err(broken());
                }
            }
        }
    }
}

fn append(collected: &mut Vec<u8>, bytes: &[u8], limit: usize) -> Result<(), Problem> {
    if bytes.len() > limit - collected.len() {
        return Err(TriggerError::BodyTooLarge { limit }.into());
    }
    collected.extend_from_slice(bytes);
    Ok(())
}

fn broken() -> Problem {
    let detail = "the body broke off or came too slowly, or its chunks are malformed";
    Problem::new(Slug::MalformedBody).with_detail(detail)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::pin;

    use futures_util::stream;
    use http_body::Frame;
    use http_body_util::StreamBody;
    use webhook_core::id::WebhookId;

    use super::*;
    use crate::capacity::body_budget::BodyBudget;

    fn chunks(sizes: Vec<usize>) -> impl Body<Data = Bytes, Error = BoxError> + Send {
        let frames =
            sizes.into_iter().map(|size| Ok::<_, Infallible>(Frame::data(Bytes::from(vec![b'x'; size]))));
        StreamBody::new(stream::iter(frames)).map_err(Into::into)
    }

    fn declaring(length: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_LENGTH, length.parse().unwrap())])
    }

    #[tokio::test]
    async fn a_body_is_counted_while_it_comes() {
        let mut body = pin!(chunks(vec![600, 400]));
        assert_eq!(
            RequestBody::new(body.as_mut(), &HeaderMap::new()).read(1_000).await.unwrap().len(),
            1_000
        );
        let mut body = pin!(chunks(vec![600, 401]));
        let mut body = RequestBody::new(body.as_mut(), &HeaderMap::new());
        assert_eq!(body.read(1_000).await.unwrap_err().slug(), Slug::TooLarge);
        assert!(body.drain().await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_body_waits_for_room_and_a_small_one_does_not() {
        let (budget, webhook) =
            (BodyBudget::default(), WebhookId::generate(std::time::SystemTime::UNIX_EPOCH));
        let turn = || Turn { budget: &budget, webhook, server: None };
        let limit = 1 << 20;
        let mut held = Vec::new();
        while let Ok(share) = budget.share(webhook, limit).await {
            held.push(share);
        }
        for (size, is_read) in [(FREE, true), (FREE + 1, false)] {
            for headers in [HeaderMap::new(), declaring(&size.to_string())] {
                let mut body = pin!(chunks(vec![size / 2, size - size / 2]));
                let mut body = RequestBody::new(body.as_mut(), &headers);
                let read = body.read_in_turn(limit, Some(turn())).await;
                assert_eq!(read.is_ok(), is_read, "{size} bytes, {headers:?}");
                let expected = if is_read { None } else { Some(Slug::QueueFull) };
                assert_eq!(read.err().map(|problem| problem.slug()), expected);
            }
        }
        held.pop();
        let mut body = pin!(chunks(vec![limit / 2; 2]));
        let read = RequestBody::new(body.as_mut(), &HeaderMap::new()).read_in_turn(limit, Some(turn())).await;
        assert_eq!(read.unwrap().0.len(), limit);
    }

    #[tokio::test]
    async fn a_declared_length_is_refused_before_anything_is_read() {
        let mut body = pin!(chunks(vec![1]));
        let mut body = RequestBody::new(body.as_mut(), &declaring("1001"));
        assert_eq!(body.read(1_000).await.unwrap_err().slug(), Slug::TooLarge);
        assert!(!body.is_over);
    }

    #[tokio::test]
    async fn draining_is_bounded_in_size() {
        let mut body = pin!(chunks(vec![DRAIN_BYTES / 2; 3]));
        assert!(!RequestBody::new(body.as_mut(), &HeaderMap::new()).drain().await);
    }

    #[tokio::test(start_paused = true)]
    async fn draining_is_bounded_in_time() {
        let silent = StreamBody::new(stream::pending::<Result<Frame<Bytes>, BoxError>>());
        let mut body = pin!(silent);
        let started = tokio::time::Instant::now();
        assert!(!RequestBody::new(body.as_mut(), &HeaderMap::new()).drain().await);
        assert_eq!(started.elapsed(), DRAIN_TIME);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stays_away_is_given_up() {
        let silent = StreamBody::new(stream::pending::<Result<Frame<Bytes>, BoxError>>());
        let mut body = pin!(silent);
        let started = tokio::time::Instant::now();
        let mut body = RequestBody::new(body.as_mut(), &declaring("10"));
        assert_eq!(body.read(1_000).await.unwrap_err().slug(), Slug::MalformedBody);
        assert_eq!(started.elapsed(), READ_TIME);
    }

    #[tokio::test]
    async fn a_client_that_waits_to_be_asked_is_not_asked_for_nothing() {
        let mut headers = declaring("10");
        headers.insert(header::EXPECT, "100-Continue".parse().unwrap());
        let mut body = pin!(chunks(vec![10]));
        assert!(!RequestBody::new(body.as_mut(), &headers).drain().await);
    }
}
