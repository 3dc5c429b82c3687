//! Workflows with their parameter blocks and webhooks.

use std::str::FromStr;
use std::sync::Arc;

use http::StatusCode;
use webhook_core::error::Resource;
use webhook_core::id::WorkflowKey;
use webhook_core::store::WebhookQuery;
use webhook_core::webhook::Webhook;

use crate::contract::fields;
use crate::contract::problem::Problem;
use crate::contract::wire::page::{PAGE_BYTES, Page};
use crate::contract::wire::value::Detail;
use crate::contract::wire::webhook::WebhookView;
use crate::contract::wire::workflow::WorkflowView;
use crate::request::head::Head;
use crate::request::query::QueryFields;
use crate::response::answer::{Answer, json, json_bytes};
use crate::state::State;

/// Handles `GET /workflows`: workflows with their webhooks, long values cut.
pub(crate) async fn list(state: &State, head: &Head) -> Result<Answer, Problem> {
    let mut given = QueryFields::read(&head.query, state.limits().query_bytes)?;
    let cursor: Cursor = given.take(&fields::cursor()).unwrap_or_default();
    let limit = given.limit();
    given.finish()?;
    let listed = state.webhooks.manage().list_workflows(cursor.page.clone()).await?;
    let mut written = Page::new();
    for workflow in listed.items.iter().skip(cursor.skip).take(limit) {
        let (webhooks, more) = webhooks(state, &workflow.key).await?;
        let webhooks = webhooks.iter().map(|webhook| WebhookView::new(webhook)).collect();
        let refused = state.webhooks.manage().get_refused_calls(&workflow.key);
        if !written.push(&WorkflowView::new(workflow, webhooks, more, refused, Detail::Excerpt)) {
            break;
        }
    }
    let next = cursor.after(written.len(), listed.items.len(), listed.next_cursor);
    Ok(written.into_answer(next))
}

/// Handles `GET /workflows/{kind}/{id}`: one workflow with nothing cut. Webhooks beyond the bound have their own list.
pub(crate) async fn read(state: &State, head: &Head) -> Result<Answer, Problem> {
    let key = head.route.workflow().ok_or_else(|| Problem::not_found(Resource::Workflow))?;
    let workflow = state.webhooks.manage().get_workflow(&key).await?;
    let (webhooks, more) = webhooks(state, &workflow.key).await?;
    let webhooks = webhooks.iter().map(|webhook| WebhookView::new(webhook)).collect();
    let refused = state.webhooks.manage().get_refused_calls(&workflow.key);
    Ok(json(StatusCode::OK, &WorkflowView::new(&workflow, webhooks, more, refused, Detail::Full)))
}

/// Upper bound on the bytes of the webhooks of one workflow.
const WEBHOOKS_BYTES: usize = PAGE_BYTES / 2;

/// Returns a workflow's webhooks, newest first, and whether there are more than fit.
async fn webhooks(state: &State, workflow: &WorkflowKey) -> Result<(Vec<Arc<Webhook>>, bool), Problem> {
    let mut query = WebhookQuery::default().of_workflow(workflow.clone()).limit(200);
    let (mut all, mut bytes) = (Vec::new(), 0);
    loop {
        let page = state.webhooks.manage().list_webhooks(query.clone()).await?;
        for webhook in page.items {
            bytes += json_bytes(&WebhookView::new(&webhook)).len();
            if bytes > WEBHOOKS_BYTES {
                return Ok((all, true));
            }
            all.push(webhook);
        }
        if page.next.is_none() {
            return Ok((all, false));
        }
        query = query.before(page.next);
    }
}

/// Place in the list: the executor's page, and the number of its items that were returned.
///
/// A page of the executor may be larger than one of this list.
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
