//! Lists, bounded in bytes: a page ends early rather than grow beyond its bound.

use http::StatusCode;
use serde::Serialize;

use crate::response::answer::{Answer, with_body};

/// The most bytes that the items of a page take. One item alone may take more.
pub(crate) const PAGE_BYTES: usize = 1024 * 1024;

/// A page that is being written.
pub(crate) struct Page {
    body: Vec<u8>,
    items: usize,
}

impl Page {
    pub(crate) fn new() -> Self {
        Self { body: b"{\"items\":[".to_vec(), items: 0 }
    }

    /// How many items it has.
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
        // What is shown has text for keys, and writing to memory never fails.
        let _ = serde_json::to_writer(&mut self.body, item);
        if self.items > 0 && self.body.len() > PAGE_BYTES {
            self.body.truncate(start);
            return false;
        }
        self.items += 1;
        true
    }

    /// Ends the page. With a cursor, more follows.
    pub(crate) fn answer(mut self, next_cursor: Option<String>) -> Answer {
        self.body.extend_from_slice(b"],\"next_cursor\":");
        let _ = serde_json::to_writer(&mut self.body, &next_cursor);
        self.body.push(b'}');
        with_body(StatusCode::OK, "application/json", self.body)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use serde_json::Value;

    use super::*;

    #[tokio::test]
    async fn a_page_ends_before_the_item_that_does_not_fit() {
        let item = "x".repeat(300_000);
        let mut page = Page::new();
        while page.push(&item) {}
        assert_eq!(page.len(), 3);
        let body = page.answer(Some("next".to_owned())).into_body();
        let body = body.collect().await.unwrap().to_bytes();
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
}
