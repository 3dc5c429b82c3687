//! Pages of lists, bounded in bytes: a page ends early rather than grow beyond its bound.

use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use crate::response::answer::{Answer, with_body};

/// Upper bound on the bytes of a page's items. One item alone may take more.
pub(crate) const PAGE_BYTES: usize = 1024 * 1024;

/// At most 1 MiB: a page with long items ends earlier than asked, with a `next_cursor`.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "{T}Page")]
pub(crate) struct PageOf<T> {
    items: Vec<T>,
    next_cursor: Option<String>,
}

/// A page that is being written. Its items are written one by one, so its size is known.
pub(crate) struct Page {
    body: Vec<u8>,
    items: usize,
}

impl Page {
    pub(crate) fn new() -> Self {
        Self { body: b"{\"items\":[".to_vec(), items: 0 }
    }

    /// Returns the number of items.
    pub(crate) fn len(&self) -> usize {
        self.items
    }

    /// Adds an item and returns `true`; or returns `false` where that would exceed the bound, and the page is to end
    /// before this item.
    #[must_use]
    pub(crate) fn push(&mut self, item: &impl Serialize) -> bool {
        let start = self.body.len();
        if self.items > 0 {
            self.body.push(b',');
        }
        // Wire types have text for keys, and writing to memory never fails.
        let _ = serde_json::to_writer(&mut self.body, item);
        if self.items > 0 && self.body.len() > PAGE_BYTES {
            self.body.truncate(start);
            return false;
        }
        self.items += 1;
        true
    }

    /// Ends the page and creates the answer with it. With a cursor, more follows.
    pub(crate) fn into_answer(self, next_cursor: Option<impl ToString>) -> Answer {
        let body = self.into_bytes(next_cursor.map(|cursor| cursor.to_string()));
        with_body(StatusCode::OK, "application/json", body)
    }

    fn into_bytes(mut self, next_cursor: Option<String>) -> Vec<u8> {
        self.body.extend_from_slice(b"],\"next_cursor\":");
        let _ = serde_json::to_writer(&mut self.body, &next_cursor);
        self.body.push(b'}');
        self.body
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_page_ends_before_the_item_that_does_not_fit() {
        let item = "x".repeat(300_000);
        let mut page = Page::new();
        while page.push(&item) {}
        assert_eq!(page.len(), 3);
        let body = page.into_bytes(Some("next".to_owned()));
        assert!(body.len() < PAGE_BYTES);
        let read: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(read["items"].as_array().unwrap().len(), 3);
        assert_eq!(read["next_cursor"], "next");
    }

    #[test]
    fn a_page_has_one_item_at_least() {
        let mut page = Page::new();
        assert!(page.push(&"x".repeat(2 * PAGE_BYTES)));
        assert!(!page.push(&1));
    }

    #[test]
    fn a_page_is_written_as_its_type_says() {
        let mut page = Page::new();
        assert!(page.push(&1) && page.push(&2));
        let whole = PageOf { items: vec![1, 2], next_cursor: Some("3".to_owned()) };
        assert_eq!(page.into_bytes(Some("3".to_owned())), serde_json::to_vec(&whole).unwrap());
    }
}
