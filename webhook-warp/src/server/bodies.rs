//! Bodies with something to look after: a deadline, or the request that is being answered.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};
use webhook_core::error::BoxError;

use super::activity::Answering;

/// A request's body, which must come to its end in time once somebody reads it.
pub(super) struct TimelyBody {
    body: Incoming,
    allowed: Duration,
    begun: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

/// A body came too slowly.
#[derive(Debug, thiserror::Error)]
#[error("the body took longer than {0:?}")]
struct TooSlow(Duration);

impl TimelyBody {
    pub(super) fn new(body: Incoming, allowed: Duration) -> Self {
        Self { body, allowed, begun: None, timer: None }
    }
}

impl Body for TimelyBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let deadline = *self.begun.get_or_insert_with(Instant::now) + self.allowed;
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if frame.is_ready() && Instant::now() < deadline {
            return frame.map_err(Into::into);
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        ready!(timer.as_mut().poll(context));
        Poll::Ready(Some(Err(TooSlow(self.allowed).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body; once it is dropped, the request is answered.
pub(super) struct AnsweringBody<B> {
    body: B,
    _answering: Answering,
}

impl<B> AnsweringBody<B> {
    pub(super) fn new(body: B, answering: Answering) -> Self {
        Self { body, _answering: answering }
    }
}

impl<B: Body + Unpin> Body for AnsweringBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
