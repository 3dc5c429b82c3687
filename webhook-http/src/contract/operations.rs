//! The table of operations: routing, `Allow`, links, the audit log and the OpenAPI document are derived from it.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value};

use crate::contract::fields::{
    CHANNEL, CURSOR, DELIVERY_STATE, DRY_RUN, IDEMPOTENCY_KEY, IF_MATCH, IF_NONE_MATCH, LAST_EVENT_ID, LIMIT,
    OFFSET, PREFER, RUN_OF_DELIVERIES, RUN_OF_EVENTS, RUN_STATE, TRACEPARENT, WEBHOOK, WORKFLOW,
};
use crate::contract::operation::{
    AnswerHeader, Audience, Content, Path, Spec, Success, Takes, Verb, check, delete, get, json, nothing,
    optional, patch, post, required, text,
};
use crate::contract::slug::Slug::{self, *};
use crate::contract::template::Template;
use crate::contract::wire::call::CallView;
use crate::contract::wire::delivery::{Channels, DeliveryView, ResentDeliveries, TestedNotifications};
use crate::contract::wire::page::PageOf;
use crate::contract::wire::preset::Presets;
use crate::contract::wire::recipe::Recipes;
use crate::contract::wire::request::{NewRun, NewWebhook, NoFields, ResendDeliveries};
use crate::contract::wire::run::{Accepted, CallerRun, DryRun, Ended, ManagedRun};
use crate::contract::wire::sender::{
    Handshake, Ignored, NewSecret, PreviewView, Sample, SecretToStore, SecretView,
};
use crate::contract::wire::service::{Client, Health};
use crate::contract::wire::settings::SettingsPatch;
use crate::contract::wire::webhook::{CreatedWebhook, Url, WebhookView};
use crate::contract::wire::workflow::WorkflowView;
use AnswerHeader::{Always, Sometimes};

/// Declares each path once, with its audience and its operations. An operation's name in the document is that of its
/// variant, with a small first letter.
macro_rules! operations {
    ($($text:literal for $audience:ident { $($operation:ident = $spec:expr,)* })*) => {
        /// An operation of the contract.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Operation { $($($operation,)*)* }

        impl Operation {
            /// Returns the path.
            pub(crate) fn template(self) -> &'static Template {
                match self {
                    $($(Self::$operation)|* => {
                        const TEMPLATE: Template = Template::new($text);
                        &TEMPLATE
                    })*
                }
            }
        }

        /// All paths. Trigger calls come first, since they come most often.
        pub(crate) static PATHS: &[Path<Operation>] = &[$(Path {
            template: Template::new($text),
            audience: Audience::$audience,
            operations: &[$((Operation::$operation, $spec)),*],
        }),*];
    };
}

const TRIGGER: Spec = Spec {
    headers: &[IDEMPOTENCY_KEY, PREFER, DRY_RUN, TRACEPARENT],
    answers: &[
        Success {
            status: 200,
            content: Content::JsonOrText(answered),
            headers: &[
                Sometimes("Location"),
                Sometimes("Preference-Applied"),
                Sometimes("Idempotency-Replayed"),
            ],
        },
        json::<Accepted<'static>>(202).with(&[Always("Location"), Sometimes("Idempotency-Replayed")]),
        nothing(204).with(&[Always("Location"), Sometimes("Idempotency-Replayed")]),
    ],
    ..post("Start a run")
};

/// Returns the schema of every 200: the end of `Prefer: wait`, a dry run, an ignored call, a handshake, and a run at a
/// sender that takes 200 for success.
fn answered(schemas: &mut SchemaGenerator) -> Schema {
    let alternatives = [
        schemas.subschema_for::<Ended<'static>>(),
        schemas.subschema_for::<DryRun<'static>>(),
        schemas.subschema_for::<Accepted<'static>>(),
        schemas.subschema_for::<Ignored<'static>>(),
        schemas.subschema_for::<Handshake<'static>>(),
    ];
    json_schema!({"anyOf": alternatives})
}

/// Checks of the URL are not refused for what a run needs.
const CHECK_PROBLEMS: &[Slug] = &[
    Unauthorized,
    TwoTokens,
    MalformedQuery,
    QueryTooLong,
    WebhookDisabled,
    AddressNotAllowed,
    MethodNotAllowed,
    RateLimited,
    StoreUnavailable,
    ShuttingDown,
];

const TRIGGER_PROBLEMS: &[Slug] = &[
    Unauthorized,
    TwoTokens,
    MalformedQuery,
    IdempotencyKeyInvalid,
    SignatureInvalid,
    AddressNotAllowed,
    WebhookDisabled,
    WorkflowMissing,
    QueryTooLong,
    ParametersInvalid,
    IdempotencyMismatch,
    RateLimited,
    QueueFull,
    StoreUnavailable,
    ShuttingDown,
];

const OWN_READ_PROBLEMS: &[&[Slug]] =
    &[&[Unauthorized, TwoTokens, MalformedQuery, QueryTooLong, RateLimited, StoreUnavailable]];

const LOG: Success = text("text/plain").with(&[Always("Webhook-Log-Offset"), Always("Webhook-Log-End")]);
const ARTIFACT: Success = Success {
    status: 200,
    content: Content::Artifact,
    headers: &[Always("Content-Disposition"), Always("Content-Security-Policy")],
};
const WEBHOOK_RECORD: Success = json::<WebhookView<'static>>(200).with(&[Always("ETag")]);
const STARTED: Success = json::<Accepted<'static>>(202).with(&[Always("Location")]);

operations! {
    "/api/v1/{kind}/{workflow_id}/webhook" for Trigger {
        TriggerByGet = Spec {
            answers_head: false,
            headers: TRIGGER.headers,
            answers: TRIGGER.answers,
            problems: &[TRIGGER_PROBLEMS, &[GetNotAllowed, PreviewRefused]],
            ..get("Start a run")
        },
        Trigger = Spec {
            takes: Takes::Parameters,
            problems: &[TRIGGER_PROBLEMS, &[MalformedBody, TooLarge, UnsupportedMediaType]],
            ..TRIGGER
        },
        CheckByHead = Spec {
            answers: &[nothing(200)],
            problems: &[CHECK_PROBLEMS],
            ..check(Verb::Head, "Check the URL, for a preset whose sender does so")
        },
        CheckByOptions = Spec {
            answers: &[nothing(200).with(&[
                Always("Allow"),
                Always("WebHook-Allowed-Origin"),
                Sometimes("WebHook-Allowed-Rate"),
            ])],
            problems: &[CHECK_PROBLEMS],
            ..check(Verb::Options, "Check the URL, for a preset whose sender does so")
        },
    }
    "/api/v1/{kind}/{workflow_id}/runs/{run_id}" for Status {
        ReadOwnRun = Spec {
            answers: &[json::<CallerRun<'static>>(200)],
            problems: OWN_READ_PROBLEMS,
            ..get("A run as its caller sees it")
        },
    }
    "/api/v1/{kind}/{workflow_id}/runs/{run_id}/log" for Status {
        ReadOwnLog = Spec {
            query: &[OFFSET.field],
            answers: &[LOG],
            problems: OWN_READ_PROBLEMS,
            ..get("Its log")
        },
    }
    "/api/v1/{kind}/{workflow_id}/runs/{run_id}/artifacts/{name}" for Status {
        ReadOwnArtifact = Spec {
            answers: &[ARTIFACT],
            problems: OWN_READ_PROBLEMS,
            ..get("One of its artifacts")
        },
    }
    "/admin/api/v1/workflows" for Management {
        ListWorkflows = Spec {
            query: &[LIMIT.field, CURSOR],
            answers: &[json::<PageOf<WorkflowView<'static>>>(200)],
            ..get("Workflows with their webhooks")
        },
    }
    "/admin/api/v1/workflows/{kind}/{workflow_id}" for Management {
        ReadWorkflow = Spec {
            answers: &[json::<WorkflowView<'static>>(200)],
            ..get("A workflow, with nothing cut")
        },
    }
    "/admin/api/v1/webhooks" for Management {
        ListWebhooks = Spec {
            query: &[LIMIT.field, CURSOR, WORKFLOW.field],
            answers: &[json::<PageOf<WebhookView<'static>>>(200)],
            ..get("Webhooks, newest first")
        },
        CreateWebhook = Spec {
            takes: required::<NewWebhook>(),
            answers: &[json::<CreatedWebhook<'static>>(201).with(&[Always("Location"), Always("ETag")])],
            problems: &[&[IntegrationMissing]],
            audit: Some("create-webhook"),
            ..post("Make a webhook")
        },
    }
    "/admin/api/v1/webhooks/{id}" for Management {
        ReadWebhook = Spec { answers: &[WEBHOOK_RECORD], ..get("A webhook; never its token") },
        ChangeWebhook = Spec {
            headers: &[IF_MATCH],
            takes: optional::<SettingsPatch>(),
            answers: &[WEBHOOK_RECORD],
            problems: &[&[PreconditionFailed, IntegrationMissing]],
            audit: Some("change-webhook"),
            ..patch("Change settings (JSON merge patch, RFC 7396)")
        },
        DeleteWebhook = Spec {
            headers: &[IF_MATCH],
            takes: optional::<NoFields>(),
            answers: &[nothing(204)],
            problems: &[&[PreconditionFailed]],
            audit: Some("delete-webhook"),
            ..delete("Delete a webhook; its history stays")
        },
    }
    "/admin/api/v1/webhooks/{id}/url" for Management {
        ReadUrl = Spec {
            answers: &[json::<Url<'static>>(200)],
            problems: &[&[UrlNotRecoverable]],
            audit: Some("read-url"),
            ..get("The URL, for copying")
        },
    }
    "/admin/api/v1/webhooks/{id}/refresh-token" for Management {
        RefreshToken = Spec {
            headers: &[IF_MATCH],
            takes: optional::<NoFields>(),
            answers: &[json::<Url<'static>>(200).with(&[Always("ETag")])],
            problems: &[&[PreconditionFailed]],
            audit: Some("refresh-token"),
            ..post("A new URL")
        },
    }
    "/admin/api/v1/webhooks/{id}/secrets" for Management {
        ListSecrets = Spec {
            answers: &[json::<PageOf<SecretView<'static>>>(200)],
            ..get("Secrets of the sender, newest first; never what they are")
        },
        AddSecret = Spec {
            takes: optional::<SecretToStore>(),
            answers: &[json::<NewSecret<'static>>(201).with(&[Always("Location")])],
            problems: &[&[PreconditionFailed]],
            audit: Some("add-secret"),
            ..post("Store a secret of the sender, at most two; one that is left out is generated")
        },
    }
    "/admin/api/v1/webhooks/{id}/secrets/{secret_id}" for Management {
        RemoveSecret = Spec {
            takes: optional::<NoFields>(),
            answers: &[nothing(204)],
            problems: &[&[PreconditionFailed]],
            audit: Some("remove-secret"),
            ..delete("Remove a secret of the sender")
        },
    }
    "/admin/api/v1/webhooks/{id}/preview" for Management {
        PreviewCall = Spec {
            takes: optional::<Sample>(),
            answers: &[json::<PreviewView<'static>>(200)],
            problems: &[&[WorkflowMissing, ParametersInvalid, MalformedQuery]],
            audit: Some("preview-call"),
            ..post("The way of a sample of a call through the settings; it starts nothing")
        },
    }
    "/admin/api/v1/webhooks/{id}/calls" for Management {
        ListCalls = Spec {
            query: &[LIMIT.field, CURSOR],
            answers: &[json::<PageOf<CallView<'static>>>(200)],
            ..get("Its newest calls with their answers, newest first; refused ones and checks of the URL too")
        },
    }
    "/admin/api/v1/webhooks/{id}/calls/{call_id}/replay" for Management {
        ReplayCall = Spec {
            takes: optional::<NoFields>(),
            answers: &[STARTED],
            problems: &[&[
                CallNotReplayable,
                MalformedBody,
                UnsupportedMediaType,
                ParametersInvalid,
                WorkflowMissing,
                QueueFull,
                ShuttingDown,
            ]],
            audit: Some("replay-call"),
            ..post("Run an accepted call again with the present settings, where its content is kept")
        },
    }
    "/admin/api/v1/presets" for Management {
        ListPresets = Spec {
            answers: &[json::<Presets>(200)],
            ..get("Senders whose rules are known")
        },
    }
    "/admin/api/v1/recipes" for Management {
        ListRecipes = Spec {
            answers: &[json::<Recipes>(200)],
            ..get("How to set up known senders, with settings, steps and a sample for each")
        },
    }
    "/admin/api/v1/client" for Management {
        ReadClient = Spec {
            answers: &[json::<Client>(200)],
            ..get("The address from which this request comes, as calls from there are seen")
        },
    }
    "/admin/api/v1/webhooks/{id}/run" for Management {
        RunNow = Spec {
            takes: optional::<NewRun>(),
            answers: &[STARTED],
            problems: &[&[ParametersInvalid, WorkflowMissing, QueueFull, ShuttingDown]],
            audit: Some("run-now"),
            ..post("Start a run by hand")
        },
    }
    "/admin/api/v1/webhooks/{id}/test-notification" for Management {
        TestNotification = Spec {
            takes: optional::<NoFields>(),
            answers: &[json::<TestedNotifications<'static>>(200)],
            audit: Some("test-notification"),
            ..post("Send a test message to all recipients")
        },
    }
    "/admin/api/v1/runs" for Management {
        ListRuns = Spec {
            query: &[LIMIT.field, CURSOR, WORKFLOW.field, WEBHOOK.field, RUN_STATE.field],
            answers: &[json::<PageOf<ManagedRun<'static>>>(200)],
            ..get("Runs, newest first")
        },
    }
    "/admin/api/v1/runs/{id}" for Management {
        ReadRun = Spec { answers: &[json::<ManagedRun<'static>>(200)], ..get("A run") },
    }
    "/admin/api/v1/runs/{id}/log" for Management {
        ReadLog = Spec { query: &[OFFSET.field], answers: &[LOG], ..get("Its log") },
    }
    "/admin/api/v1/runs/{id}/artifacts/{name}" for Management {
        ReadArtifact = Spec { answers: &[ARTIFACT], ..get("One of its artifacts") },
    }
    "/admin/api/v1/runs/{id}/cancel" for Management {
        CancelRun = Spec {
            takes: optional::<NoFields>(),
            answers: &[json::<ManagedRun<'static>>(200), json::<ManagedRun<'static>>(202)],
            problems: &[&[PreconditionFailed]],
            audit: Some("cancel-run"),
            ..post("Cancel a run")
        },
    }
    "/admin/api/v1/runs/{id}/retry" for Management {
        RetryRun = Spec {
            takes: optional::<NoFields>(),
            answers: &[STARTED],
            problems: &[&[ParametersInvalid, PreconditionFailed, WorkflowMissing, QueueFull, ShuttingDown]],
            audit: Some("retry-run"),
            ..post("A new run like one that has ended")
        },
    }
    "/admin/api/v1/channels" for Management {
        ListChannels = Spec {
            answers: &[json::<Channels>(200)],
            ..get("Channels of notifications, and whether the server has an integration for each")
        },
    }
    "/admin/api/v1/deliveries" for Management {
        ListDeliveries = Spec {
            query: &[LIMIT.field, CURSOR, DELIVERY_STATE.field, CHANNEL.field, RUN_OF_DELIVERIES.field],
            answers: &[json::<PageOf<DeliveryView<'static>>>(200)],
            ..get("Notifications of all runs, newest first")
        },
    }
    "/admin/api/v1/deliveries/resend" for Management {
        ResendDeliveries = Spec {
            takes: required::<ResendDeliveries>(),
            answers: &[json::<ResentDeliveries>(200)],
            audit: Some("resend-deliveries"),
            ..post("Send again what fits a filter, at most 1,000 at a time")
        },
    }
    "/admin/api/v1/deliveries/{id}/resend" for Management {
        ResendDelivery = Spec {
            takes: optional::<NoFields>(),
            answers: &[json::<DeliveryView<'static>>(200)],
            audit: Some("resend-delivery"),
            ..post("Send it again")
        },
    }
    "/admin/api/v1/events" for Management {
        WatchEvents = Spec {
            query: &[WORKFLOW.field, RUN_OF_EVENTS.field],
            headers: &[LAST_EVENT_ID],
            answers: &[text("text/event-stream").with(&[Always("X-Accel-Buffering")])],
            ..get("Server-sent events: run, progress, log, calls, reset; long values are cut as in lists")
        },
    }
    "/api/v1/openapi.json" for Description {
        Describe = Spec {
            headers: &[IF_NONE_MATCH],
            answers: &[
                nothing(304).with(&[Always("ETag")]),
                json::<Map<String, Value>>(200).with(&[Always("ETag")]),
            ],
            ..get("This document")
        },
    }
    "/metrics" for Metrics {
        Metrics = Spec {
            answers: &[text("text/plain")],
            ..get("What was counted, for Prometheus; where the host serves it")
        },
    }
    "/healthz" for Health {
        Health = Spec {
            answers: &[json::<Health>(200)],
            problems: &[&[StoreUnavailable]],
            ..get("Whether the store can be written")
        },
    }
    "/readyz" for Health {
        Ready = Spec {
            answers: &[json::<Health>(200)],
            problems: &[&[StoreUnavailable, ShuttingDown]],
            ..get("Whether calls are accepted")
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::operation::Verb;

    #[test]
    fn every_change_through_the_management_paths_has_a_name_in_the_audit_log_and_so_has_reading_a_url() {
        for (operation, spec) in PATHS.iter().flat_map(|path| path.operations) {
            let is_managed = operation.template().as_str().starts_with("/admin/");
            let is_logged = is_managed && (spec.verb != Verb::Get || *operation == Operation::ReadUrl);
            assert_eq!(spec.audit.is_some(), is_logged, "{operation:?}");
        }
    }

    #[test]
    fn management_paths_stand_below_admin_and_no_others_do() {
        for path in PATHS {
            let is_below = path.template.as_str().starts_with("/admin/api/v1/");
            assert_eq!(path.audience == Audience::Management, is_below, "{}", path.template.as_str());
        }
    }
}
