//! Files that a front end serves beside the contract, such as a page for people.

use bytes::Bytes;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use crate::contract::problem::Problem;
use crate::headers;
use crate::response::answer::{Answer, not_modified, set, with_body, without_body};
use crate::response::body::ResponseBody;

/// A file that a front end serves beside the contract. It is the hook by which a crate with a page mounts it.
///
/// Its answers have the headers of all answers, an `ETag`, and `Cache-Control: no-cache`: a browser keeps the file and
/// asks each time whether there is a new one.
///
/// ```
/// use http::{HeaderMap, Method, StatusCode, header};
/// use webhook_http::Asset;
///
/// let page = Asset::new("<!doctype html>", "text/html; charset=utf-8");
/// let answer = page.answer(&Method::GET, &HeaderMap::new());
/// assert_eq!(answer.headers()[header::CACHE_CONTROL], "no-cache");
/// assert_eq!(page.answer(&Method::POST, &HeaderMap::new()).status(), StatusCode::METHOD_NOT_ALLOWED);
/// ```
#[derive(Debug, Clone)]
pub struct Asset {
    content: AssetContent,
    headers: HeaderMap,
}

#[derive(Debug, Clone)]
enum AssetContent {
    File { bytes: Bytes, content_type: &'static str, tag: String },
    Elsewhere(&'static str),
}

impl Asset {
    /// Creates a file with this content.
    #[must_use]
    pub fn new(content: impl Into<Bytes>, content_type: &'static str) -> Self {
        let bytes = content.into();
        let tag = headers::content_tag(&bytes);
        Self { content: AssetContent::File { bytes, content_type, tag }, headers: HeaderMap::new() }
    }

    /// Creates a permanent redirect (308) to an address relative to that of the request.
    #[must_use]
    pub fn moved_to(location: &'static str) -> Self {
        Self { content: AssetContent::Elsewhere(location), headers: HeaderMap::new() }
    }

    /// Adds a header. It replaces the common header of the same name.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Returns the response to GET and HEAD, and 405 for any other method.
    #[must_use]
    pub fn answer(&self, method: &Method, asked: &HeaderMap) -> http::Response<ResponseBody> {
        let mut answer = if *method == Method::GET || *method == Method::HEAD {
            self.content(asked)
        } else {
            Problem::method_not_allowed("GET, HEAD").into_response()
        };
        headers::add_common(answer.headers_mut(), &headers::request_id(asked));
        if answer.status().is_success() || answer.status() == StatusCode::NOT_MODIFIED {
            answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        }
        for (name, value) in &self.headers {
            answer.headers_mut().insert(name, value.clone());
        }
        if *method == Method::HEAD { without_body(answer) } else { answer }
    }

    fn content(&self, asked: &HeaderMap) -> Answer {
        match &self.content {
            AssetContent::File { bytes, content_type, tag } => {
                let mut answer = if headers::holds(asked, tag) {
                    not_modified()
                } else {
                    with_body(StatusCode::OK, content_type, bytes.clone())
                };
                set(&mut answer, header::ETAG, tag);
                answer
            }
            AssetContent::Elsewhere(location) => {
                let mut answer =
                    with_body(StatusCode::PERMANENT_REDIRECT, "text/plain; charset=utf-8", Bytes::new());
                set(&mut answer, header::LOCATION, location);
                answer
            }
        }
    }
}
