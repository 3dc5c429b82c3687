//! Workflows with their parameter blocks and webhooks.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use webhook_core::calls::RefusedCalls;
use webhook_core::executor::Workflow;
use webhook_core::id::{WorkflowId, WorkflowKind};
use webhook_core::masking::MASK;
use webhook_core::parameters::{ParameterBlock, ParameterType};
use webhook_core::run::{EXCERPT_BYTES, excerpt_value};

use crate::contract::wire::call::RefusedCallsView;
use crate::contract::wire::value::{Detail, Truncated};
use crate::contract::wire::webhook::WebhookView;

/// Upper bound on the bytes of one block's choices in a list.
const CHOICES_BYTES: usize = 4 * EXCERPT_BYTES;
/// Upper bound on the bytes of the texts of one workflow's blocks in a list.
const BLOCKS_BYTES: usize = 64 * EXCERPT_BYTES;

/// A workflow. An item of a list says `truncated` when anything in it was cut.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Workflow")]
pub(crate) struct WorkflowView<'a> {
    kind: &'a WorkflowKind,
    id: &'a WorkflowId,
    title: &'a str,
    parameters: Vec<BlockView<'a>>,
    /// Reason for which it cannot be executed. `null`: it can.
    unavailable: Option<&'a str>,
    webhooks: Vec<WebhookView<'a>>,
    /// Calls that belong to none of its webhooks.
    refused: RefusedCallsView,
    #[serde(skip_serializing_if = "Truncated::is_whole")]
    truncated: Truncated,
}

impl<'a> WorkflowView<'a> {
    /// Shows a workflow with its webhooks. `more`: it has further ones.
    pub(crate) fn new(
        workflow: &'a Workflow,
        webhooks: Vec<WebhookView<'a>>,
        more: bool,
        refused: Option<RefusedCalls>,
        detail: Detail,
    ) -> Self {
        let (title, cut) = detail.of_text(&workflow.title);
        let mut room = detail.of_number(BLOCKS_BYTES);
        let fitting = |block: &'a ParameterBlock| {
            let view = BlockView::new(block, detail);
            room = room.checked_sub(view.bytes())?;
            Some(view)
        };
        let parameters: Vec<_> = workflow.parameters.iter().map_while(fitting).collect();
        let unavailable = workflow.unavailable.as_deref().map(|reason| detail.of_text(reason));
        let truncated = more
            || cut
            || unavailable.is_some_and(|(_, cut)| cut)
            || parameters.len() < workflow.parameters.len()
            || parameters.iter().any(|block| block.truncated.0);
        let unavailable = unavailable.map(|(reason, _)| reason);
        let (kind, id, truncated) = (&workflow.key.kind, &workflow.key.id, Truncated(truncated));
        let refused = RefusedCallsView::new(refused);
        Self { kind, id, title, parameters, unavailable, webhooks, refused, truncated }
    }
}

/// A parameter block.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ParameterBlock")]
struct BlockView<'a> {
    name: &'a str,
    #[serde(rename = "type")]
    parameter_type: ParameterType,
    #[schemars(with = "Value")]
    default: Default<'a>,
    required: bool,
    choices: &'a [String],
    secret: bool,
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Truncated::is_whole")]
    truncated: Truncated,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Default<'a> {
    Whole(Option<&'a Value>),
    Masked(&'static str),
    Beginning(String),
}

impl<'a> BlockView<'a> {
    fn new(block: &'a ParameterBlock, detail: Detail) -> Self {
        let description = block.description.as_deref().map(|text| detail.of_text(text));
        let cut = |value| if detail == Detail::Excerpt { excerpt_value(value, EXCERPT_BYTES) } else { None };
        let default = match &block.default {
            Some(_) if block.secret => Default::Masked(MASK),
            Some(value) => cut(value).map_or(Default::Whole(Some(value)), Default::Beginning),
            None => Default::Whole(None),
        };
        let mut room = detail.of_number(CHOICES_BYTES);
        let fits = |choice: &&String| {
            let left = room.checked_sub(choice.len());
            room = left.unwrap_or(0);
            left.is_some()
        };
        let choices = &block.choices[..block.choices.iter().take_while(fits).count()];
        Self {
            name: &block.name,
            parameter_type: block.parameter_type,
            required: block.required,
            choices,
            secret: block.secret,
            description: description.map(|(text, _)| text),
            truncated: Truncated(
                choices.len() < block.choices.len()
                    || description.is_some_and(|(_, cut)| cut)
                    || matches!(default, Default::Beginning(_)),
            ),
            default,
        }
    }

    /// Estimates its length on the wire, in bytes.
    fn bytes(&self) -> usize {
        let default = match &self.default {
            Default::Whole(value) => value.and_then(Value::as_str).map_or(EXCERPT_BYTES / 8, str::len),
            Default::Masked(text) => text.len(),
            Default::Beginning(text) => text.len(),
        };
        let choices = self.choices.iter().map(|choice| choice.len() + 3).sum::<usize>();
        self.name.len() + default + choices + self.description.map_or(0, str::len) + 128
    }
}
