//! Errors of reading a body.

use super::problem::{excerpt, shortened};

/// Error of reading a body. No error repeats a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// The body does not have the form that its media type demands.
    #[error("{message}")]
    Malformed {
        /// The fault and its remedy, in words for the caller.
        message: String,
    },
    /// The `Content-Type` is not a media type, is an unsupported one, or names another charset.
    #[error(
        "the media type {} is not supported; send application/json or application/x-www-form-urlencoded in \
         UTF-8",
        excerpt(.content_type)
    )]
    UnsupportedMediaType {
        /// The `Content-Type` as sent, shortened if it is long.
        content_type: String,
    },
    /// The body is compressed or otherwise encoded.
    #[error(
        "the content coding {} is not supported; send the body as it is, without Content-Encoding",
        excerpt(.coding)
    )]
    UnsupportedContentEncoding {
        /// First unsupported coding, shortened if it is long.
        coding: String,
    },
}

impl BodyError {
    pub(super) fn unsupported(content_type: &str) -> Self {
        Self::UnsupportedMediaType { content_type: shortened(content_type) }
    }
}
