//! Answers, and their JSON.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use crate::response::body::ResponseBody;

pub(crate) type Answer = Response<ResponseBody>;

/// Creates an answer with this body.
pub(crate) fn with_body(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let body = body.into();
    let length = body.len();
    let mut answer = Response::new(ResponseBody::from_bytes(body));
    *answer.status_mut() = status;
    // Room for the headers of most answers, so it is allocated once.
    answer.headers_mut().reserve(8);
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    answer
}

/// Creates an answer with a JSON body.
pub(crate) fn json(status: StatusCode, content: &impl Serialize) -> Answer {
    with_body(status, "application/json", json_bytes(content))
}

/// Writes JSON. Wire types have text for keys, and writing to memory never fails.
pub(crate) fn json_bytes(content: &impl Serialize) -> Vec<u8> {
    let mut body = Vec::with_capacity(256);
    let _ = serde_json::to_writer(&mut body, content);
    body
}

/// Creates a 304: the client holds the present content already (RFC 9110 section 15.4.5).
pub(crate) fn not_modified() -> Answer {
    let mut answer = Response::new(ResponseBody::empty());
    *answer.status_mut() = StatusCode::NOT_MODIFIED;
    answer
}

/// Creates a 204.
pub(crate) fn no_content() -> Answer {
    let mut answer = Response::new(ResponseBody::empty());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer
}

/// Sets a header whose value comes from this service, so it has only characters that a header can hold.
pub(crate) fn set(answer: &mut Answer, name: impl header::IntoHeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
}

/// Turns an answer to GET into one to HEAD (RFC 9110 section 9.3.2).
pub(crate) fn without_body(answer: Answer) -> Answer {
    answer.map(|_| ResponseBody::empty())
}
