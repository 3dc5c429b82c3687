//! Decoding `multipart/form-data` (RFC 7578).

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::future::FutureExt;
use futures_util::stream;
use multer::{Field, Multipart};

use super::body_error::BodyError;
use super::limits::ParameterLimits;
use super::media_type::{MediaType, header_parameters};
use super::problem::excerpt;
use super::query::Pairs;

/// Text fields of a form, and the names of the fields that hold files.
#[derive(Default)]
pub(super) struct MultipartForm {
    pub(super) texts: Pairs,
    pub(super) files: Vec<String>,
}

/// Decodes a form whose parts are in memory. Of a file, only the name of its field is kept.
pub(super) fn parse_multipart(
    content_type: &str,
    bytes: &[u8],
    limits: &ParameterLimits,
) -> Result<MultipartForm, BodyError> {
    let boundary = multer::parse_boundary(content_type)
        .map_err(|_| malformed("its media type names no boundary between the parts"))?;
    let whole = stream::once(std::future::ready(Ok::<_, Infallible>(Bytes::copy_from_slice(bytes))));
    let mut parts = Multipart::new(whole, boundary);
    let mut form = MultipartForm::default();
    let mut left = limits.json_values;
    while let Some(part) = now(parts.next_field())? {
        left = left
            .checked_sub(1)
            .ok_or_else(|| malformed(&format!("it has more than {} parts", limits.json_values)))?;
        let Disposition { name, is_file } =
            Disposition::read(&part).ok_or_else(|| malformed("one of its parts has no name"))?;
        if is_file {
            form.files.push(name);
            continue;
        }
        let is_utf8 = is_utf8(&part);
        let value = now(async { part.bytes().await.map(Some) })?.unwrap_or_default();
        let value = std::str::from_utf8(&value).ok().filter(|_| is_utf8);
        let value = value.ok_or_else(|| malformed(&format!("the field {} is not UTF-8", excerpt(&name))))?;
        form.texts.push(&name, value);
    }
    Ok(form)
}

/// The name of a part's field, and whether it holds a file.
///
/// `multer` finds both by searching the header for their names, also in a quoted text, and in lower case only.
struct Disposition {
    name: String,
    is_file: bool,
}

impl Disposition {
    /// Reads the `Content-Disposition` of a part (RFC 7578 section 4.2): only a file has a file name.
    fn read(part: &Field<'_>) -> Option<Self> {
        let header = std::str::from_utf8(part.headers().get("content-disposition")?.as_bytes()).ok()?;
        let (kind, parameters) = header.split_once(';')?;
        let parameters = header_parameters(parameters)?;
        let mut names = parameters.iter().filter(|(name, _)| name.eq_ignore_ascii_case("name"));
        let (Some((_, name)), None) = (names.next(), names.next()) else { return None };
        let is_file = parameters
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("filename") || name.eq_ignore_ascii_case("filename*"));
        let is_field = kind.trim_ascii().eq_ignore_ascii_case("form-data");
        is_field.then(|| Self { name: unescaped(name), is_file })
    }
}

/// Returns a name without the escapes that some clients need for quotes and backslashes. A browser writes a backslash
/// as it is.
fn unescaped(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    let mut characters = name.chars().peekable();
    while let Some(character) = characters.next() {
        let escaped = characters.next_if(|next| character == '\\' && matches!(next, '"' | '\\'));
        text.push(escaped.unwrap_or(character));
    }
    text
}

/// Returns whether a part names no other charset than UTF-8.
fn is_utf8(part: &Field<'_>) -> bool {
    let media_type = part.headers().get("content-type").and_then(|value| value.to_str().ok());
    media_type.and_then(MediaType::parse).is_none_or(|media_type| media_type.is_utf8())
}

/// Takes the next part of a body that is in memory as a whole: there is nothing to wait for.
fn now<T>(next: impl Future<Output = multer::Result<Option<T>>>) -> Result<Option<T>, BodyError> {
    match next.now_or_never() {
        Some(Ok(part)) => Ok(part),
        Some(Err(_)) | None => Err(malformed("its parts do not have the form that RFC 7578 demands")),
    }
}

fn malformed(reason: &str) -> BodyError {
    BodyError::Malformed { message: format!("the multipart form in the body is malformed: {reason}") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=X";

    type Fields = (Vec<(String, String)>, Vec<String>);

    fn parse(body: &str) -> Result<Fields, String> {
        let form = parse_multipart(TYPE, body.as_bytes(), &ParameterLimits::default());
        form.map(|form| {
            let texts = form.texts.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
            (texts.collect(), form.files)
        })
        .map_err(|error| error.to_string())
    }

    fn part(head: &str, value: &str) -> String {
        format!("--X\r\nContent-Disposition: form-data; {head}\r\n\r\n{value}\r\n")
    }

    #[test]
    fn text_fields_are_read_and_files_are_named() {
        let body = [
            part("name=\"region\"", "EMEA"),
            part("name=\"note\"\r\nContent-Type: text/plain; charset=utf-8", "zwei\r\nZeilen ü"),
            part("name=\"region\"", ""),
            part("name=\"upload\"; filename=\"a.csv\"\r\nContent-Type: text/csv", "canary"),
            "--X--\r\n".to_owned(),
        ];
        let (texts, files) = parse(&body.concat()).unwrap();
        let expected = [("region", "EMEA"), ("note", "zwei\r\nZeilen ü"), ("region", "")];
        assert_eq!(texts, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(files, ["upload"]);
        assert_eq!(parse("--X--\r\n").unwrap(), (Vec::new(), Vec::new()));
    }

    #[test]
    fn a_malformed_form_is_refused_and_not_repeated() {
        for body in [
            "",
            "canary",
            "--X\r\n",
            "--X\r\ncanary",
            "--Y\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\ncanary\r\n--Y--\r\n",
            &part("name=\"a\"", "canary"),
            &(part("filename=\"a\"", "canary") + "--X--\r\n"),
        ] {
            let error = parse(body).unwrap_err();
            assert!(!error.contains("canary"), "{error}");
        }
        let limits = ParameterLimits::default();
        assert!(parse_multipart("multipart/form-data", b"--X--\r\n", &limits).is_err());
        let not_text = b"--X\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n\xff\r\n--X--\r\n";
        assert!(parse_multipart(TYPE, not_text, &limits).is_err());
    }

    #[test]
    fn a_file_is_known_however_its_name_is_written_and_no_text_is_taken_for_one() {
        let read = |head: &str| parse(&(part(head, "1") + "--X--\r\n")).unwrap();
        for head in [
            "name=\"a\"; filename=\"x\"",
            "name=\"a\"; filename=\"\"",
            "name=a;filename=x",
            "filename=\"x\"; name=\"a\"",
            "name=\"a\"; FileName=\"x\"",
            "name=\"a\"; filename*=UTF-8''x.csv",
            "name=\"a\"; filename=\"x; name=b\"",
        ] {
            assert_eq!(read(head), (Vec::new(), vec!["a".to_owned()]), "{head}");
        }
        for (head, name) in [
            ("name=\"a; filename=x\"", "a; filename=x"),
            (r#"name="a\"; filename=\"x""#, r#"a"; filename="x"#),
            (r#"NAME="a\b\\c""#, r"a\b\c"),
            ("name=\"a\"\r\nContent-Type: multipart/mixed; boundary=Y", "a"),
            ("name=\"\"", ""),
        ] {
            assert_eq!(read(head), (vec![(name.to_owned(), "1".to_owned())], Vec::new()), "{head}");
        }
    }

    #[test]
    fn a_part_whose_head_leaves_a_doubt_is_refused() {
        for head in [
            "name=\"a\"; name=\"b\"",
            "name*=UTF-8''a",
            "name=\"a",
            "name=\"a\" b",
            "name=\"a\"\r\nContent-Type: text/plain; charset=utf-16",
            "name=\"a\"\r\nContent-Type: text/plain; charset=iso-8859-1",
            &format!("name=\"a\"{}", "\r\nX-Other: b".repeat(100)),
        ] {
            assert!(parse(&(part(head, "1") + "--X--\r\n")).is_err(), "{head}");
        }
        let attached = part("name=\"a\"", "1").replace("form-data", "attachment") + "--X--\r\n";
        assert!(parse(&attached).is_err());
    }

    #[test]
    fn a_form_ends_at_its_last_boundary_and_not_before() {
        let a = part("name=\"a\"", "1");
        let expected = vec![("a".to_owned(), "1".to_owned())];
        for around in [
            format!("{a}--X--"),
            format!("before\r\n{a}--X--\r\n"),
            format!("{a}--X--\r\nbehind{}--X--\r\n", part("name=\"b\"", "2")),
        ] {
            assert_eq!(parse(&around).unwrap().0, expected, "{around}");
        }
        for cut in [
            a.clone(),
            format!("{a}--X"),
            format!("{a}--X-"),
            format!("{a}--X\r\n"),
            format!("{a}--X--").replace("\r\n", "\n"),
            part("name=\"a\"", "1\r\n--XY\r\n2") + "--X--\r\n",
        ] {
            assert!(parse(&cut).is_err(), "{cut}");
        }
    }

    #[test]
    fn many_parts_are_read_in_linear_time_and_too_many_are_refused() {
        let body = part("name=\"a\"", "b").repeat(10_000) + "--X--\r\n";
        assert_eq!(parse(&body).unwrap().0.len(), 10_000);
        let body = part("name=\"a\"", "b").repeat(10_001) + "--X--\r\n";
        assert!(parse(&body).unwrap_err().contains("10000 parts"));
    }

    proptest! {
        #[test]
        fn any_body_is_read_or_refused(body in "(--X|--|\r\n|name=|\"|;|:|Content-Disposition: form-data; |\\PC){0,16}") {
            let _ = parse(&body);
        }

        #[test]
        fn what_is_written_is_read(fields in prop::collection::vec(("[a-zé]{1,4}", "[a-zé \r\n=&]{0,6}"), 0..5)) {
            let parts: String = fields.iter().map(|(name, value)| part(&format!("name=\"{name}\""), value)).collect();
            prop_assert_eq!(parse(&(parts + "--X--\r\n")).unwrap().0, fields);
        }
    }
}
