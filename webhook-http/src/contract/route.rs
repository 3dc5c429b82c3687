//! Routing: from a path to the operations of the contract.

use std::borrow::Cow;
use std::fmt;

use http::Method;
use percent_encoding::percent_decode_str;
use webhook_core::error::Resource;
use webhook_core::id::{
    CallId, DeliveryId, RunId, SecretId, WebhookId, WorkflowId, WorkflowKey, WorkflowKind,
};

use crate::contract::operation::{Audience, Path, Spec};
use crate::contract::operations::{Operation, PATHS};
use crate::contract::problem::Problem;
use crate::contract::template::{Captures, MOST_SEGMENTS, PathParameter};

/// A path of the contract, with the ids and names in it.
///
/// An ill-formed id is not an error here: no record has it, but the token is checked before the caller is
/// told.
#[derive(Clone)]
pub struct Route {
    path: &'static Path<Operation>,
    kind: Option<WorkflowKind>,
    workflow_id: Option<WorkflowId>,
    id: Option<RunId>,
    secret: Option<SecretId>,
    call: Option<CallId>,
    name: Option<String>,
}

impl Route {
    /// Returns the route of a path that starts with `/`, or `None` if the contract has no such path.
    ///
    /// Segments are percent-decoded (RFC 3986). A malformed escape gives an ill-formed id; elsewhere in a
    /// path, the path is not one of the contract's.
    pub(crate) fn of(path: &str) -> Option<Self> {
        let mut segments = [const { None }; MOST_SEGMENTS];
        let mut count = 0;
        for segment in path.strip_prefix('/')?.split('/') {
            *segments.get_mut(count)? = decoded(segment);
            count += 1;
        }
        let segments = segments.each_ref().map(Option::as_deref);
        PATHS.iter().find_map(|path| Self::new(path, &path.template.captures(&segments[..count])?))
    }

    fn new(path: &'static Path<Operation>, captures: &Captures<'_>) -> Option<Self> {
        let mut route =
            Self { path, kind: None, workflow_id: None, id: None, secret: None, call: None, name: None };
        for parameter in path.template.parameters() {
            let text = captures.get(parameter);
            match parameter {
                PathParameter::Kind => route.kind = text.and_then(|text| text.parse().ok()),
                PathParameter::WorkflowId => route.workflow_id = text.and_then(|text| text.parse().ok()),
                PathParameter::Id | PathParameter::RunId => {
                    route.id = text.and_then(|text| text.parse().ok());
                }
                PathParameter::SecretId => route.secret = text.and_then(|text| text.parse().ok()),
                PathParameter::CallId => route.call = text.and_then(|text| text.parse().ok()),
                PathParameter::Name => route.name = Some(text.filter(|name| !name.is_empty())?.to_owned()),
            }
        }
        let is_a_callers = matches!(path.audience, Audience::Trigger | Audience::Status);
        (!is_a_callers || route.kind.is_some()).then_some(route)
    }

    /// Returns the templates of all paths for an audience. Those of callers have one of these kinds of workflows.
    pub(crate) fn templates<'k>(
        audience: Audience,
        kinds: impl Iterator<Item = &'k WorkflowKind> + Clone,
    ) -> Vec<String> {
        let mut templates = Vec::new();
        for path in PATHS.iter().filter(|path| path.audience == audience) {
            let template = path.template.as_str();
            if matches!(audience, Audience::Trigger | Audience::Status) {
                templates.extend(kinds.clone().map(|kind| template.replace("{kind}", kind.as_str())));
            } else {
                templates.push(template.to_owned());
            }
        }
        templates
    }

    /// Returns the group of clients that this path is for.
    #[must_use]
    pub fn audience(&self) -> Audience {
        self.path.audience
    }

    /// Returns the operation of a method.
    ///
    /// # Errors
    /// 405 with the methods that the path answers.
    pub(crate) fn operation(&self, method: &Method) -> Result<(Operation, &'static Spec), Problem> {
        match self.path.operation(method) {
            Some((operation, spec)) => Ok((*operation, spec)),
            None => Err(Problem::method_not_allowed(self.path.allow())),
        }
    }

    /// Returns the kind of workflow that the path names.
    pub(crate) fn kind(&self) -> Option<&WorkflowKind> {
        self.kind.as_ref()
    }

    /// Returns the workflow that the path names, unless an id in it is ill-formed.
    pub(crate) fn workflow(&self) -> Option<WorkflowKey> {
        Some(WorkflowKey::new(self.kind.clone()?, self.workflow_id.clone()?))
    }

    /// Returns the webhook that the path names.
    ///
    /// # Errors
    /// 404 for an ill-formed id, as for an unknown one.
    pub(crate) fn webhook(&self) -> Result<WebhookId, Problem> {
        self.id(Resource::Webhook).map(|id| WebhookId::from_bytes(*id.as_bytes()))
    }

    /// Returns the run that the path names.
    ///
    /// # Errors
    /// 404 for an ill-formed id, as for an unknown one.
    pub(crate) fn run(&self) -> Result<RunId, Problem> {
        self.id(Resource::Run)
    }

    /// Returns the delivery that the path names.
    ///
    /// # Errors
    /// 404 for an ill-formed id, as for an unknown one.
    pub(crate) fn delivery(&self) -> Result<DeliveryId, Problem> {
        self.id(Resource::Delivery).map(|id| DeliveryId::from_bytes(*id.as_bytes()))
    }

    /// Returns the secret that the path names.
    ///
    /// # Errors
    /// 404 for an ill-formed id, as for an unknown one.
    pub(crate) fn secret(&self) -> Result<SecretId, Problem> {
        self.secret.ok_or_else(|| Problem::not_found(Resource::Secret))
    }

    /// Returns the call that the path names.
    ///
    /// # Errors
    /// 404 for an ill-formed id, as for an unknown one.
    pub(crate) fn call(&self) -> Result<CallId, Problem> {
        self.call.ok_or_else(|| Problem::not_found(Resource::Call))
    }

    /// Returns the name of the artifact, or an empty text, which no artifact has.
    pub(crate) fn artifact(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    /// Returns the id of the webhook, run or delivery that the path names, as the audit log shows it.
    pub(crate) fn target(&self) -> Option<RunId> {
        self.id
    }

    /// All ids have one form, so they are kept as one type.
    fn id(&self, of: Resource) -> Result<RunId, Problem> {
        self.id.ok_or_else(|| Problem::not_found(of))
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Route").field(&self.path.template.as_str()).finish()
    }
}

/// Decodes one segment; `None` for a malformed escape or bytes that are not UTF-8.
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

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0198c5a0-7e6b-7aaa-8bbb-0123456789ab";

    fn template(path: &str) -> Option<&'static str> {
        Route::of(path).map(|route| route.path.template.as_str())
    }

    fn operation(method: Method, path: &str) -> Option<Operation> {
        Route::of(path).unwrap().operation(&method).ok().map(|(operation, _)| operation)
    }

    /// Returns a path with these values in place of its parameters.
    fn filled(template: &str) -> String {
        let samples = [("{kind}", "report"), ("{workflow_id}", "sales"), ("{name}", "a%20b.html")];
        let ids = [("{id}", ID), ("{run_id}", ID), ("{secret_id}", ID)];
        samples.iter().chain(&ids).fold(template.to_owned(), |path, (name, value)| path.replace(name, value))
    }

    #[test]
    fn every_path_of_the_table_is_routed_to_itself() {
        for path in PATHS {
            let text = path.template.as_str();
            assert_eq!(template(&filled(text)), Some(text));
            // No other template takes the same paths, so the order of the table has no effect.
            let given = filled(text);
            let segments: Vec<Option<&str>> = given[1..].split('/').map(Some).collect();
            let taking = PATHS.iter().filter(|path| path.template.captures(&segments).is_some());
            assert_eq!(taking.count(), 1, "{text}");
        }
    }

    #[test]
    fn ids_and_names_are_read_from_the_path() {
        let route = Route::of(&format!("/api/v1/report/s%61les/runs/{ID}/artifacts/a%20b.html")).unwrap();
        assert_eq!(route.workflow(), Some("report/sales".parse().unwrap()));
        assert_eq!(route.run().unwrap(), ID.parse().unwrap());
        assert_eq!(route.artifact(), "a b.html");
        let route = Route::of(&format!("/admin/api/v1/webhooks/{ID}")).unwrap();
        assert_eq!(route.webhook().unwrap(), ID.parse().unwrap());
        let route = Route::of(&format!("/admin/api/v1/deliveries/{ID}/resend")).unwrap();
        assert_eq!(route.delivery().unwrap(), ID.parse().unwrap());
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
            assert_eq!(template(path), None, "{path}");
        }
    }

    #[test]
    fn an_ill_formed_id_makes_a_route_that_nothing_has() {
        for id in ["-a", "%2e%2e", "a%", "a%zz", "%ff", "a%2Fb", "a%20b", ""] {
            let route = Route::of(&format!("/api/v1/report/{id}/webhook")).unwrap();
            assert_eq!(route.path.audience, Audience::Trigger);
            assert_eq!(route.workflow(), None);
        }
        for id in ["7", &ID.to_uppercase()] {
            let route = Route::of(&format!("/admin/api/v1/runs/{id}/cancel")).unwrap();
            assert_eq!(route.run(), Err(Problem::not_found(Resource::Run)));
        }
        assert_eq!(Route::of("/admin/api/v1/workflows/report/..").unwrap().workflow(), None);
    }

    #[test]
    fn a_method_stands_for_an_operation_and_head_for_a_get_that_starts_nothing() {
        let trigger = "/api/v1/report/sales/webhook";
        assert_eq!(operation(Method::GET, trigger), Some(Operation::TriggerByGet));
        assert_eq!(operation(Method::POST, trigger), Some(Operation::Trigger));
        assert_eq!(operation(Method::HEAD, trigger), Some(Operation::CheckByHead));
        assert_eq!(operation(Method::OPTIONS, trigger), Some(Operation::CheckByOptions));
        assert_eq!(operation(Method::HEAD, "/healthz"), Some(Operation::Health));
        assert_eq!(operation(Method::from_bytes(b"get").unwrap(), "/healthz"), None);
        let allow = |path: &str| Route::of(path).unwrap().path.allow();
        assert_eq!(allow(trigger), "GET, POST, HEAD, OPTIONS");
        assert_eq!(allow("/admin/api/v1/webhooks"), "GET, HEAD, POST");
        assert_eq!(allow("/admin/api/v1/webhooks/x"), "GET, HEAD, PATCH, DELETE");
    }
}
