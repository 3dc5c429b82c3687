//! Bodies with a deadline, and bodies that mark their request as being answered.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};
use webhook_core::error::BoxError;

use super::activity::{Activity, Answering};

/// Body of a request with a deadline from its first read, which is shorter when others need the connection.
#[derive(Debug)]
pub struct TimelyBody {
    body: Incoming,
    allowed: Duration,
    begun: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    activity: Activity,
}

/// Error of a body that arrives too slowly.
#[derive(Debug, thiserror::Error)]
enum TooSlow {
    #[error("the body took longer than {0:?}")]
    Overdue(Duration),
    #[error("the body came too slowly while connections ran short")]
    MadeRoom,
}

impl TimelyBody {
    pub(super) fn new(body: Incoming, allowed: Duration, activity: Activity) -> Self {
        Self { body, allowed, begun: None, timer: None, activity }
    }
}

impl Drop for TimelyBody {
    fn drop(&mut self) {
        if self.begun.is_some() {
            self.activity.body_is_over();
        }
    }
}

impl Body for TimelyBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.begun.is_none() {
            self.activity.body_came(0);
        }
        let deadline = *self.begun.get_or_insert_with(Instant::now) + self.allowed;
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if frame.is_ready() && Instant::now() < deadline {
            if let Poll::Ready(Some(Ok(frame))) = &frame {
                self.activity.body_came(frame.data_ref().map_or(0, Bytes::len));
            }
            return frame.map_err(Into::into);
        }
        if self.activity.body_is_given_up() {
            return Poll::Ready(Some(Err(TooSlow::MadeRoom.into())));
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        ready!(timer.as_mut().poll(context));
        Poll::Ready(Some(Err(TooSlow::Overdue(self.allowed).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

pin_project! {
    /// Body of an answer. Once it is dropped, the request is answered.
    pub(super) struct AnsweringBody<B> {
        #[pin]
        body: B,
        answering: Answering,
    }
}

impl<B> AnsweringBody<B> {
    pub(super) fn new(body: B, answering: Answering) -> Self {
        Self { body, answering }
    }
}

impl<B: Body> Body for AnsweringBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.project().body.poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
