//! The content of artifacts.
//!
//! A workflow made it, perhaps from values that a caller sent, so a browser must not trust it.
//! It gets no scripts, no network and an origin of its own.

use std::fs::File;
use std::io::{self, Read, Take};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Response, header};
use http_body::Frame;
use http_body_util::StreamBody;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use webhook_core::error::{Resource, chain};
use webhook_core::executor::ArtifactContent;
use webhook_core::parameters::MediaType;
use webhook_core::run::Run;

use crate::contract::problem::Problem;
use crate::contract::slug::Slug;
use crate::response::answer::{Answer, set};
use crate::response::body::ResponseBody;
use crate::state::State;

/// Bytes of a file that are read at once.
const CHUNK: usize = 64 * 1024;

/// Content policy: no scripts, no requests, an origin of its own. Style and images within the page are
/// harmless.
const POLICY: &str = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:";

/// Media types that a browser may show. Everything else is offered for saving.
const SHOWN: [&str; 9] = [
    "text/html",
    "text/plain",
    "text/csv",
    "text/markdown",
    "application/json",
    "image/png",
    "image/jpeg",
    "image/gif",
    "image/webp",
];

/// `attr-char` of RFC 8187.
const EXTENDED_VALUE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// Returns the content of an artifact of a run.
pub(crate) async fn answer(state: &State, run: &Run, name: &str) -> Result<Answer, Problem> {
    let (content_type, length, body) = match state.webhooks.manage().get_artifact(run, name).await? {
        ArtifactContent::Bytes { content_type, bytes } => {
            (content_type, bytes.len() as u64, ResponseBody::from_bytes(bytes))
        }
        ArtifactContent::File { content_type, path } => {
            let (length, body) = file(move || File::open(path).map(Arc::new)).await?;
            (content_type, length, body)
        }
        ArtifactContent::Open { content_type, file: opened } => {
            let (length, body) = file(move || Ok(opened)).await?;
            (content_type, length, body)
        }
        _ => return Err(Problem::not_found(Resource::Artifact)),
    };
    let mut answer = Response::new(body);
    let content_type = HeaderValue::from_str(&content_type)
        .unwrap_or_else(|_| HeaderValue::from_static("application/octet-stream"));
    let disposition = disposition(name, content_type.to_str().unwrap_or_default());
    answer.headers_mut().insert(header::CONTENT_TYPE, content_type);
    answer.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    set(&mut answer, header::CONTENT_DISPOSITION, &disposition);
    set(&mut answer, header::CONTENT_SECURITY_POLICY, POLICY);
    Ok(answer)
}

/// Returns `Content-Disposition` (RFC 6266) with the name in plain ASCII and, where that loses something, in full.
fn disposition(name: &str, content_type: &str) -> String {
    let shown = MediaType::parse(content_type).is_some_and(|media| SHOWN.contains(&media.essence()));
    let kind = if shown { "inline" } else { "attachment" };
    let base = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let plain = |character: char| {
        let safe = matches!(character, ' '..='~') && !matches!(character, '"' | '\\' | '%');
        if safe { character } else { '_' }
    };
    let ascii: String = base.chars().map(plain).collect();
    if ascii == base {
        format!("{kind}; filename=\"{ascii}\"")
    } else {
        let full = utf8_percent_encode(base, EXTENDED_VALUE);
        format!("{kind}; filename=\"{ascii}\"; filename*=UTF-8''{full}")
    }
}

/// Returns a file's length and its content, read in chunks on threads that may block.
async fn file(
    open: impl FnOnce() -> io::Result<Arc<File>> + Send + 'static,
) -> Result<(u64, ResponseBody), Problem> {
    let opened = tokio::task::spawn_blocking(move || {
        let file = open()?;
        let metadata = file.metadata()?;
        let regular = metadata.is_file();
        regular.then_some((metadata.len(), file)).ok_or(io::Error::from(io::ErrorKind::NotFound))
    });
    let (length, file) = match opened.await.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Problem::not_found(Resource::Artifact));
        }
        Err(error) => {
            tracing::error!(error = chain(&error), "an artifact's file cannot be opened");
            return Err(Problem::new(Slug::StoreUnavailable));
        }
    };
    let pieces = stream::try_unfold(file.take(length), |file| async {
        let read = tokio::task::spawn_blocking(move || piece(file)).await;
        read.unwrap_or_else(|panic| Err(io::Error::other(panic)))
    });
    Ok((length, ResponseBody::streamed(StreamBody::new(pieces))))
}

type Piece = Option<(Frame<Bytes>, Take<Arc<File>>)>;

fn piece(mut file: Take<Arc<File>>) -> io::Result<Piece> {
    let mut bytes = Vec::with_capacity(CHUNK.min(file.limit() as usize));
    file.by_ref().take(CHUNK as u64).read_to_end(&mut bytes)?;
    Ok((!bytes.is_empty()).then(|| (Frame::data(Bytes::from(bytes)), file)))
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[test]
    fn safe_types_are_shown_and_others_saved() {
        assert_eq!(disposition("r.html", "text/html; charset=utf-8"), "inline; filename=\"r.html\"");
        for saved in
            ["image/svg+xml", "application/pdf", "application/xhtml+xml", "application/javascript", ""]
        {
            assert!(disposition("r", saved).starts_with("attachment; "), "{saved}");
        }
    }

    #[test]
    fn a_name_cannot_break_out_of_its_header() {
        let expected = "attachment; filename=\"a_b__c_.txt\"; filename*=UTF-8''a%22b%0D%0Ac%C3%A9.txt";
        assert_eq!(disposition("x/a\"b\r\nc\u{e9}.txt", "x"), expected);
    }

    #[tokio::test]
    async fn a_file_is_read_piece_by_piece_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("big");
        let content: Vec<u8> = (0..3 * CHUNK + 7).map(|place| place as u8).collect();
        std::fs::write(&path, &content).unwrap();
        let open = |path: &std::path::Path| {
            let path = path.to_owned();
            move || File::open(path).map(Arc::new)
        };
        let (length, body) = file(open(&path)).await.unwrap();
        assert_eq!(length, content.len() as u64);
        assert_eq!(body.collect().await.unwrap().to_bytes(), content);
        assert_eq!(file(open(folder.path())).await.unwrap_err().slug(), Slug::NotFound);
    }
}
