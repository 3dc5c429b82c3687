//! Workflows with their parameter blocks and webhooks.

use std::str::FromStr;

use http::StatusCode;
use serde_json::Value;
use webhook_core::error::Resource;
use webhook_core::id::WorkflowKey;
use webhook_core::store::WebhookQuery;

use crate::api::Api;
use crate::contract::problem::Problem;
use crate::contract::wire::{self, Detail, WorkflowView};
use crate::request::head::Head;
use crate::request::query::QueryFields;
use crate::response::answer::{Answer, json};
use crate::response::page::{PAGE_BYTES, Page};

/// `GET /workflows`.
pub(crate) async fn list(api: &Api, head: &Head) -> Result<Answer, Problem> {
    let mut fields = QueryFields::read(head.query(), api.limits().query_bytes)?;
    let cursor: Cursor = fields.take("cursor", "a cursor that this list gave out").unwrap_or_default();
    let limit = fields.limit();
    fields.finish()?;
    let listed = api.webhooks().manage().workflows(cursor.page.clone()).await?;
    let mut page = Page::new();
    for workflow in listed.items.iter().skip(cursor.skip).take(limit) {
        let (webhooks, more) = webhooks(api, &workflow.key).await?;
        if !page.push(&WorkflowView::new(workflow, webhooks, more, Detail::Excerpt)) {
            break;
        }
    }
    let next = cursor.after(page.len(), listed.items.len(), listed.next_cursor);
    Ok(page.answer(next.map(|cursor| cursor.to_string())))
}

/// `GET /workflows/{kind}/{id}`: one with nothing cut. Webhooks beyond the bound are to be listed by themselves.
pub(crate) async fn get(api: &Api, key: Option<&WorkflowKey>) -> Result<Answer, Problem> {
    let missing = || Problem::not_found(Resource::Workflow);
    let workflow = api.webhooks().manage().workflow(key.ok_or_else(missing)?).await?;
    let (webhooks, more) = webhooks(api, &workflow.key).await?;
    Ok(json(StatusCode::OK, &WorkflowView::new(&workflow, webhooks, more, Detail::Full)))
}

/// The most bytes that the webhooks of one workflow take beside it.
const WEBHOOKS_BYTES: usize = PAGE_BYTES / 2;

/// A workflow's webhooks, newest first, and whether there are more than fit.
async fn webhooks(api: &Api, workflow: &WorkflowKey) -> Result<(Vec<Value>, bool), Problem> {
    let mut query = WebhookQuery::default().of_workflow(workflow.clone()).limit(200);
    let (mut all, mut bytes) = (Vec::new(), 0);
    loop {
        let page = api.webhooks().manage().list(query.clone()).await?;
        for webhook in &page.items {
            let shown = wire::webhook(webhook);
            bytes += shown.to_string().len();
            if bytes > WEBHOOKS_BYTES {
                return Ok((all, true));
            }
            all.push(shown);
        }
        if page.next.is_none() {
            return Ok((all, false));
        }
        query = query.before(page.next);
    }
}

/// A place in the list: the executor's page, and how many of it were given out, since its pages may be larger
/// than what is asked for here.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Cursor {
    skip: usize,
    page: Option<String>,
}

impl Cursor {
    fn after(self, limit: usize, in_page: usize, next_page: Option<String>) -> Option<Self> {
        let given = self.skip.saturating_add(limit);
        if given < in_page {
            return Some(Self { skip: given, page: self.page });
        }
        next_page.map(|page| Self { skip: 0, page: Some(page) })
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.page {
            Some(page) => write!(formatter, "{}.{page}", self.skip),
            None => write!(formatter, "{}", self.skip),
        }
    }
}

impl FromStr for Cursor {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('.') {
            Some((skip, page)) => Ok(Self { skip: skip.parse()?, page: Some(page.to_owned()) }),
            None => Ok(Self { skip: text.parse()?, page: None }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_page_is_given_out_in_parts_and_then_the_next_follows() {
        let first = Cursor::default().after(2, 3, Some("p.2".to_owned())).unwrap();
        assert_eq!(first, Cursor { skip: 2, page: None });
        let second = first.after(2, 3, Some("p.2".to_owned())).unwrap();
        assert_eq!(second.to_string().parse::<Cursor>().unwrap(), second);
        assert_eq!(second, Cursor { skip: 0, page: Some("p.2".to_owned()) });
        assert_eq!(second.after(2, 2, None), None);
        let beyond: Cursor = u64::MAX.to_string().parse().unwrap();
        assert_eq!(beyond.after(200, 3, None), None, "a cursor made up is the end of the list");
    }

    #[test]
    fn a_place_that_no_list_has_is_behind_its_end() {
        let last: Cursor = usize::MAX.to_string().parse().unwrap();
        assert_eq!(last.after(50, 3, None), None);
    }
}
