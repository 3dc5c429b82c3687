//! Which path means what: one function and one type for all of them.

use std::borrow::Cow;

use http::Method;
use percent_encoding::percent_decode_str;
use webhook_core::id::{DeliveryId, RunId, WebhookId, WorkflowId, WorkflowKey, WorkflowKind};

/// What a path names. An id that has not the form of one is `None`: nothing has it, but whoever asks is not told
/// so before their token was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Route {
    /// `/api/v1/{kind}/{id}/webhook`: starts a run.
    Trigger(WorkflowPath),
    /// `/api/v1/{kind}/{id}/runs/{run}` and below: a run as its caller sees it.
    CallerRun {
        /// The workflow.
        workflow: WorkflowPath,
        /// The run.
        run: Option<RunId>,
        /// What of it.
        part: RunPart,
    },
    /// `/admin/api/v1/workflows`.
    Workflows,
    /// `/admin/api/v1/workflows/{kind}/{id}`.
    Workflow(Option<WorkflowKey>),
    /// `/admin/api/v1/webhooks`.
    Webhooks,
    /// `/admin/api/v1/webhooks/{id}` and below.
    Webhook {
        /// The webhook.
        id: Option<WebhookId>,
        /// What of it.
        part: WebhookPart,
    },
    /// `/admin/api/v1/runs`.
    Runs,
    /// `/admin/api/v1/runs/{run}` and what can be read below it.
    Run {
        /// The run.
        id: Option<RunId>,
        /// What of it.
        part: RunPart,
    },
    /// `/admin/api/v1/runs/{run}/cancel`.
    CancelRun(Option<RunId>),
    /// `/admin/api/v1/runs/{run}/retry`.
    RetryRun(Option<RunId>),
    /// `/admin/api/v1/events`: what happens to runs, as it happens.
    Events,
    /// `/admin/api/v1/deliveries`: notifications of all runs.
    Deliveries,
    /// `/admin/api/v1/deliveries/resend`: sends many of them again.
    ResendDeliveries,
    /// `/admin/api/v1/deliveries/{id}/resend`.
    ResendDelivery(Option<DeliveryId>),
    /// `/api/v1/openapi.json`: this contract, described for programs.
    Description,
    /// `/metrics`: what was counted.
    Metrics,
    /// `/healthz`: whether the process lives and its store can be written.
    Health,
    /// `/readyz`: whether calls are accepted.
    Ready,
}

/// The workflow in a path.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkflowPath {
    /// Its kind; whether it is registered is not known here.
    pub kind: WorkflowKind,
    /// Its id.
    pub id: Option<WorkflowId>,
}

impl WorkflowPath {
    pub(crate) fn key(&self) -> Option<WorkflowKey> {
        self.id.clone().map(|id| WorkflowKey::new(self.kind.clone(), id))
    }
}

/// What is read of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunPart {
    /// Its record.
    Record,
    /// Its log.
    Log,
    /// The artifact of this name.
    Artifact(String),
}

/// What is done with a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WebhookPart {
    /// Its record: reading, changing, deleting.
    Record,
    /// Its URL, for copying.
    Url,
    /// Gives it a new token.
    RefreshToken,
    /// Starts a run by hand.
    Run,
    /// Sends a test notification.
    TestNotification,
}

/// Who a path is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Audience {
    /// Callers of webhooks, who start runs.
    Trigger,
    /// Callers of webhooks, who ask about their runs.
    Status,
    /// People and trusted programs.
    Management,
    /// Programs that read what is described.
    Description,
    /// Collectors of metrics.
    Metrics,
    /// Load balancers and monitors.
    Health,
}

const POST: &[Method] = &[Method::POST];
const READ: &[Method] = &[Method::GET, Method::HEAD];
const TRIGGER: &[Method] = &[Method::GET, Method::POST];
const COLLECTION: &[Method] = &[Method::GET, Method::HEAD, Method::POST];
const RECORD: &[Method] = &[Method::GET, Method::HEAD, Method::PATCH, Method::DELETE];

/// How many segments the longest path of the contract has.
const MOST_SEGMENTS: usize = 8;

/// What `path` names, or `None` when it is not part of the contract. Segments are percent-decoded (RFC 3986); a
/// malformed escape makes no id, and in any other place no path of ours.
#[must_use]
pub fn route(path: &str) -> Option<Route> {
    let mut segments = [const { None }; MOST_SEGMENTS];
    let mut count = 0;
    for segment in path.strip_prefix('/')?.split('/') {
        *segments.get_mut(count)? = decoded(segment);
        count += 1;
    }
    match &segments.each_ref().map(Option::as_deref)[..count] {
        [Some("healthz")] => Some(Route::Health),
        [Some("metrics")] => Some(Route::Metrics),
        [Some("readyz")] => Some(Route::Ready),
        [Some("api"), Some("v1"), Some("openapi.json")] => Some(Route::Description),
        [Some("api"), Some("v1"), Some(kind), id, rest @ ..] => caller_route(kind, *id, rest),
        [Some("admin"), Some("api"), Some("v1"), rest @ ..] => management_route(rest),
        _ => None,
    }
}

fn caller_route(kind: &str, id: Option<&str>, rest: &[Option<&str>]) -> Option<Route> {
    let id = id.and_then(|id| id.parse().ok());
    let workflow = WorkflowPath { kind: kind.parse().ok()?, id };
    match rest {
        [Some("webhook")] => Some(Route::Trigger(workflow)),
        [Some("runs"), run, rest @ ..] => {
            let part = run_part(rest)?;
            Some(Route::CallerRun { workflow, run: parsed(*run), part })
        }
        _ => None,
    }
}

fn management_route(segments: &[Option<&str>]) -> Option<Route> {
    match segments {
        [Some("workflows")] => Some(Route::Workflows),
        [Some("workflows"), kind, id] => {
            let key = parsed(*kind).and_then(|kind| Some(WorkflowKey::new(kind, parsed(*id)?)));
            Some(Route::Workflow(key))
        }
        [Some("webhooks")] => Some(Route::Webhooks),
        [Some("webhooks"), id, rest @ ..] => {
            let part = webhook_part(rest)?;
            Some(Route::Webhook { id: parsed(*id), part })
        }
        [Some("runs")] => Some(Route::Runs),
        [Some("runs"), id, Some("cancel")] => Some(Route::CancelRun(parsed(*id))),
        [Some("runs"), id, Some("retry")] => Some(Route::RetryRun(parsed(*id))),
        [Some("runs"), id, rest @ ..] => {
            let part = run_part(rest)?;
            Some(Route::Run { id: parsed(*id), part })
        }
        [Some("events")] => Some(Route::Events),
        [Some("deliveries")] => Some(Route::Deliveries),
        [Some("deliveries"), Some("resend")] => Some(Route::ResendDeliveries),
        [Some("deliveries"), id, Some("resend")] => Some(Route::ResendDelivery(parsed(*id))),
        _ => None,
    }
}

fn webhook_part(segments: &[Option<&str>]) -> Option<WebhookPart> {
    match segments {
        [] => Some(WebhookPart::Record),
        [Some("url")] => Some(WebhookPart::Url),
        [Some("refresh-token")] => Some(WebhookPart::RefreshToken),
        [Some("run")] => Some(WebhookPart::Run),
        [Some("test-notification")] => Some(WebhookPart::TestNotification),
        _ => None,
    }
}

fn run_part(segments: &[Option<&str>]) -> Option<RunPart> {
    match segments {
        [] => Some(RunPart::Record),
        [Some("log")] => Some(RunPart::Log),
        [Some("artifacts"), Some(name)] if !name.is_empty() => Some(RunPart::Artifact((*name).to_owned())),
        _ => None,
    }
}

fn parsed<T: std::str::FromStr>(segment: Option<&str>) -> Option<T> {
    segment.and_then(|text| text.parse().ok())
}

/// One segment percent-decoded; `None` for a malformed escape or what is not UTF-8.
fn decoded(segment: &str) -> Option<Cow<'_, str>> {
    if !segment.contains('%') {
        return Some(Cow::Borrowed(segment));
    }
    let well_formed = segment.split('%').skip(1).all(|behind| {
        let digits = behind.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    });
    if well_formed { percent_decode_str(segment).decode_utf8().ok() } else { None }
}

impl Route {
    /// Who this path is for.
    #[must_use]
    pub fn audience(&self) -> Audience {
        match self {
            Self::Trigger(_) => Audience::Trigger,
            Self::CallerRun { .. } => Audience::Status,
            Self::Metrics => Audience::Metrics,
            Self::Description => Audience::Description,
            Self::Health | Self::Ready => Audience::Health,
            _ => Audience::Management,
        }
    }

    /// The workflow in the path of a caller.
    #[must_use]
    pub fn workflow(&self) -> Option<&WorkflowPath> {
        match self {
            Self::Trigger(workflow) | Self::CallerRun { workflow, .. } => Some(workflow),
            _ => None,
        }
    }

    /// The methods this path answers; another one is 405 with these in `Allow` (RFC 9110 section 15.5.6).
    #[must_use]
    pub fn methods(&self) -> &'static [Method] {
        match self {
            Self::Trigger(_) => TRIGGER,
            Self::Webhooks => COLLECTION,
            Self::Webhook { part: WebhookPart::Record, .. } => RECORD,
            Self::Webhook { part: WebhookPart::Url, .. } => READ,
            Self::Webhook { .. } | Self::CancelRun(_) | Self::RetryRun(_) => POST,
            Self::ResendDelivery(_) | Self::ResendDeliveries => POST,
            Self::Deliveries => READ,
            Self::CallerRun { .. } | Self::Workflows | Self::Workflow(_) | Self::Runs | Self::Run { .. } => {
                READ
            }
            Self::Events => READ,
            Self::Description | Self::Metrics | Self::Health | Self::Ready => READ,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0198c5a0-7e6b-7aaa-8bbb-0123456789ab";

    fn workflow(id: Option<&str>) -> WorkflowPath {
        WorkflowPath { kind: "report".parse().unwrap(), id: id.map(|id| id.parse().unwrap()) }
    }

    #[test]
    fn every_path_of_the_contract_is_known() {
        let run: Option<RunId> = Some(ID.parse().unwrap());
        let hook: Option<WebhookId> = Some(ID.parse().unwrap());
        let artifact = || RunPart::Artifact("a b.html".to_owned());
        let (sales, part) = (workflow(Some("sales")), RunPart::Record);
        let caller = |part| Route::CallerRun { workflow: sales.clone(), run, part };
        let cases = [
            ("/api/v1/report/sales/webhook".to_owned(), Route::Trigger(sales.clone())),
            ("/api/v1/report/s%61les/webhook".to_owned(), Route::Trigger(sales.clone())),
            (format!("/api/v1/report/sales/runs/{ID}"), caller(RunPart::Record)),
            (format!("/api/v1/report/sales/runs/{ID}/log"), caller(RunPart::Log)),
            (format!("/api/v1/report/sales/runs/{ID}/artifacts/a%20b.html"), caller(artifact())),
            ("/admin/api/v1/workflows".to_owned(), Route::Workflows),
            ("/admin/api/v1/workflows/report/a".to_owned(), Route::Workflow("report/a".parse().ok())),
            ("/admin/api/v1/workflows/report/..".to_owned(), Route::Workflow(None)),
            ("/admin/api/v1/webhooks".to_owned(), Route::Webhooks),
            (format!("/admin/api/v1/webhooks/{ID}"), Route::Webhook { id: hook, part: WebhookPart::Record }),
            (format!("/admin/api/v1/webhooks/{ID}/url"), Route::Webhook { id: hook, part: WebhookPart::Url }),
            (
                format!("/admin/api/v1/webhooks/{ID}/refresh-token"),
                Route::Webhook { id: hook, part: WebhookPart::RefreshToken },
            ),
            (format!("/admin/api/v1/webhooks/{ID}/run"), Route::Webhook { id: hook, part: WebhookPart::Run }),
            (
                format!("/admin/api/v1/webhooks/{ID}/test-notification"),
                Route::Webhook { id: hook, part: WebhookPart::TestNotification },
            ),
            ("/admin/api/v1/runs".to_owned(), Route::Runs),
            (format!("/admin/api/v1/runs/{ID}"), Route::Run { id: run, part }),
            (format!("/admin/api/v1/runs/{ID}/log"), Route::Run { id: run, part: RunPart::Log }),
            (
                format!("/admin/api/v1/runs/{ID}/artifacts/a%20b.html"),
                Route::Run { id: run, part: artifact() },
            ),
            (format!("/admin/api/v1/runs/{ID}/cancel"), Route::CancelRun(run)),
            (format!("/admin/api/v1/runs/{ID}/retry"), Route::RetryRun(run)),
            (
                format!("/admin/api/v1/deliveries/{ID}/resend"),
                Route::ResendDelivery(Some(ID.parse().unwrap())),
            ),
            ("/admin/api/v1/events".to_owned(), Route::Events),
            ("/api/v1/openapi.json".to_owned(), Route::Description),
            ("/metrics".to_owned(), Route::Metrics),
            ("/healthz".to_owned(), Route::Health),
            ("/readyz".to_owned(), Route::Ready),
        ];
        for (path, expected) in cases {
            assert_eq!(route(&path), Some(expected), "{path}");
        }
    }

    #[test]
    fn other_paths_belong_to_the_host() {
        for path in [
            "",
            "/",
            "healthz",
            "//healthz",
            "/healthz/",
            "/api/v1/report/sales",
            "/api/v1/report/sales/webhook/",
            "/api/v1/Report/sales/webhook",
            "/api/v1/rep%6/sales/webhook",
            "/api/v1/report/sales/webh%6Fok/more",
            "/api/v1/report/sales/runs",
            "/admin/api/v1/runs/x/artifacts/",
            "/admin/api/v1/nothing",
            "/api/v2/report/sales/webhook",
        ] {
            assert_eq!(route(path), None, "{path}");
        }
    }

    #[test]
    fn what_is_not_an_id_makes_a_route_that_nothing_has() {
        for id in ["-a", "%2e%2e", "a%", "a%zz", "%ff", "a%2Fb", "a%20b", ""] {
            assert_eq!(route(&format!("/api/v1/report/{id}/webhook")), Some(Route::Trigger(workflow(None))));
        }
        assert_eq!(route("/admin/api/v1/runs/7/cancel"), Some(Route::CancelRun(None)));
        let upper = ID.to_uppercase();
        let expected = Route::Run { id: None, part: RunPart::Record };
        assert_eq!(route(&format!("/admin/api/v1/runs/{upper}")), Some(expected));
    }

    #[test]
    fn only_get_and_post_may_trigger() {
        assert_eq!(Route::Trigger(workflow(None)).methods(), [Method::GET, Method::POST]);
    }
}
