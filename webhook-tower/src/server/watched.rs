//! Stream of a connection, which records its reading and writing.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::activity::Activity;

/// Stream that records its reading and writing.
///
/// It holds back hyper's own answer to a request that hyper cannot parse, so the connection can send it in
/// the form of all other answers.
/// That answer is what hyper writes while no request is being answered.
pub(super) struct Watched<S> {
    stream: S,
    activity: Activity,
    kept_back: Vec<u8>,
}

/// Part of hyper's answer that is kept: its status line.
const STATUS_LINE: &[u8] = b"HTTP/1.1 400";

impl<S> Watched<S> {
    pub(super) fn new(stream: S, activity: Activity) -> Self {
        Self { stream, activity, kept_back: Vec::new() }
    }

    /// Returns the stream, and the status of the answer that was held back.
    pub(super) fn into_parts(self) -> (S, Option<StatusCode>) {
        let status = self.kept_back.get(STATUS_LINE.len() - 3..STATUS_LINE.len());
        (self.stream, status.and_then(|status| StatusCode::from_bytes(status).ok()))
    }

    fn keep_back(&mut self, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let room = STATUS_LINE.len() - self.kept_back.len();
        self.kept_back.extend(bytes.iter().take(room));
        Poll::Ready(Ok(bytes.len()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.activity.bytes_came();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if !self.activity.is_answering() {
            return self.keep_back(bytes);
        }
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.activity.wrote(written.is_ready());
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if !self.activity.is_answering() {
            let first = pieces.iter().find(|piece| !piece.is_empty());
            return first.map_or(Poll::Ready(Ok(0)), |piece| self.keep_back(piece));
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        self.activity.wrote(written.is_ready());
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Flushes; hyper does so once it has written everything it holds.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        if flushed.is_ready() {
            self.activity.flushed();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The answer that replaces hyper's own is still to be written.
        if self.kept_back.is_empty() {
            Pin::new(&mut self.stream).poll_shutdown(context)
        } else {
            Poll::Ready(Ok(()))
        }
    }
}
