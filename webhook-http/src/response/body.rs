//! Bodies of answers.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::BoxBody;

/// Bytes that are handed to a connection at once. So a client that stops reading is noticed before all bytes count as sent.
const PIECE: usize = 64 * 1024;

/// Body of a response: bytes in memory, or a stream.
pub struct ResponseBody(Content);

enum Content {
    Bytes(Option<Bytes>),
    Stream(BoxBody<Bytes, io::Error>),
}

impl ResponseBody {
    /// Creates a body of these bytes.
    #[must_use]
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Self {
        Self(Content::Bytes(Some(bytes.into()).filter(|bytes: &Bytes| !bytes.is_empty())))
    }

    /// Creates a body that is produced while it is sent.
    pub fn streamed(body: impl Body<Data = Bytes, Error = io::Error> + Send + Sync + 'static) -> Self {
        Self(Content::Stream(body.boxed()))
    }

    /// Creates an empty body.
    #[must_use]
    pub fn empty() -> Self {
        Self(Content::Bytes(None))
    }

    /// Returns the bytes, if they are in memory and few enough to be sent at once.
    ///
    /// # Errors
    /// The body itself, if it is streamed, or longer than 64 KiB.
    pub fn into_bytes(self) -> Result<Bytes, Self> {
        match self.0 {
            Content::Bytes(None) => Ok(Bytes::new()),
            Content::Bytes(Some(bytes)) if bytes.len() <= PIECE => Ok(bytes),
            other => Err(Self(other)),
        }
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Content::Bytes(bytes) => {
                write!(formatter, "ResponseBody({} bytes)", bytes.as_ref().map_or(0, Bytes::len))
            }
            Content::Stream(_) => formatter.write_str("ResponseBody(streamed)"),
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match &mut self.0 {
            Content::Bytes(bytes) => {
                let piece = bytes.as_mut().map(|bytes| bytes.split_to(bytes.len().min(PIECE)));
                if bytes.as_ref().is_some_and(Bytes::is_empty) {
                    *bytes = None;
                }
                Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
            }
            Content::Stream(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Content::Bytes(bytes) => bytes.is_none(),
            Content::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Content::Bytes(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Content::Stream(body) => body.size_hint(),
        }
    }
}
