//! Reading a page as a person does who copies from it.

use std::collections::BTreeMap;

use serde_json::Value;

/// Parts of a page that its reader copies.
pub(crate) struct PageContent {
    pub(crate) settings: Value,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
    /// Parameters that the run gets, as the page says.
    pub(crate) parameters: BTreeMap<String, Value>,
}

impl PageContent {
    pub(crate) fn read(page: &str) -> Self {
        let settings = serde_json::from_str(block(page, "## Settings", "json")).unwrap();
        let (head, body) = block(page, "## A call", "http").split_once("\n\n").unwrap();
        let header =
            |line: &str| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self {
            settings,
            headers: head.lines().skip(1).filter_map(header).collect(),
            body: body.to_owned(),
            parameters: section(page, "## Parameters").lines().filter_map(parameter).collect(),
        }
    }
}

/// Returns the text from one heading to the next.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let (_, rest) = page.split_once(&format!("\n{heading}\n")).unwrap();
    rest.split_once("\n## ").map_or(rest, |(section, _)| section)
}

/// Returns the first code of a language below a heading.
fn block<'a>(page: &'a str, heading: &str, language: &str) -> &'a str {
    let (_, rest) = section(page, heading).split_once(&format!("```{language}\n")).unwrap();
    rest.split_once("\n```").unwrap().0
}

/// Reads a row such as ``| `region` | `APAC` |``.
fn parameter(line: &str) -> Option<(String, Value)> {
    let mut texts = line.split('`').skip(1).step_by(2);
    Some((texts.next()?.to_owned(), Value::from(texts.next()?)))
}
