//! The contract described for programs: an OpenAPI 3.1 document, made from the routes, the table of problems and
//! the names of states, so that what those say is not said a second time.

mod answer_headers;
mod operation;
mod operations;
mod schemas;
mod settings;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use serde_json::{Map, Value, json};

use crate::api::Api;
use crate::contract::route::route;
use crate::request::headers;
use crate::response::answer::{Answer, not_modified, set, with_body};
use operations::operations;

/// What holds of every operation.
const DESCRIPTION: &str = "Every answer has `Cache-Control: no-store`, `Referrer-Policy: no-referrer` and \
     `X-Content-Type-Options: nosniff`. Every error is a problem (RFC 9457). A method that a path does not have is \
     answered with 405, the problem `method-not-allowed`, and `Allow`. The paths below `/admin` answer 403 \
     `cross-site-refused` to what a page of another site may have caused, and 429 to wrong tokens that come too often \
     from one address. Whole numbers in parameters are exact up to 64 bits, and larger ones are refused. What is no \
     proper HTTP is refused with 400, 414, 431, 501 or 505, by the hardened server with a problem of the type \
     `about:blank`.";

/// A workflow and an id that stand for any in a path.
const SAMPLES: [(&str, &str); 5] = [
    ("{kind}", "report"),
    ("{workflow_id}", "sales"),
    ("{id}", "0198c5a0-7e6b-7aaa-8bbb-0123456789ab"),
    ("{run_id}", "0198c5a0-7e6b-7aaa-8bbb-0123456789ab"),
    ("{name}", "report.html"),
];

/// The document as it is sent.
#[derive(Debug)]
pub(crate) struct Rendered {
    content: Bytes,
    tag: String,
}

/// `GET /api/v1/openapi.json`: the document, with the address below which this service is mounted.
pub(crate) fn rendered(api: &Api) -> Rendered {
    let mut document = document();
    let base = api.webhooks().base_url().as_str().trim_end_matches('/');
    document["servers"] = json!([{"url": base}]);
    let content = Bytes::from(document.to_string());
    let tag = headers::content_tag(&content);
    Rendered { content, tag }
}

impl Rendered {
    pub(crate) fn answer(&self, asked: &HeaderMap) -> Answer {
        let mut answer = if headers::holds(asked, &self.tag) {
            not_modified()
        } else {
            with_body(StatusCode::OK, "application/json", self.content.clone())
        };
        set(&mut answer, header::ETAG, &self.tag);
        answer
    }
}

/// The whole document. A path that can be read by GET is listed with HEAD where it answers that as well.
fn document() -> Value {
    let mut paths = Map::new();
    for operation in operations() {
        let item = paths.entry(operation.path).or_insert_with(|| json!({}));
        item[operation.method.as_str().to_ascii_lowercase()] = operation.described();
        let answers_head = operation.method == Method::GET
            && sample(operation.path).is_some_and(|route| route.methods().contains(&Method::HEAD));
        if answers_head {
            item["head"] = operation.without_body().described();
        }
    }
    let in_query = json!({"type": "apiKey", "in": "query", "name": "token"});
    let bearer = |description: &str| json!({"type": "http", "scheme": "bearer", "description": description});
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Inbound webhook triggers",
            "version": env!("CARGO_PKG_VERSION"),
            "description": DESCRIPTION,
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "tags": [{"name": "callers"}, {"name": "management"}, {"name": "service"}],
        "paths": paths,
        "components": {
            "schemas": schemas::all(),
            "securitySchemes": {
                "webhook_token": bearer("The token of the webhook"),
                "webhook_token_in_query": in_query,
                "admin_token": bearer("The token of the management paths"),
            },
        },
    })
}

fn sample(path: &str) -> Option<crate::contract::route::Route> {
    route(&SAMPLES.iter().fold(path.to_owned(), |path, (name, value)| path.replace(name, value)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::contract::problem::Slug;
    use crate::contract::route::{Route, RunPart, WebhookPart};

    /// The path of each route. A new variant does not compile until it stands here.
    fn template(route: &Route) -> String {
        let of_part = |part: &RunPart| match part {
            RunPart::Record => "",
            RunPart::Log => "/log",
            RunPart::Artifact(_) => "/artifacts/{name}",
        };
        let below = |path: &str| format!("/admin/api/v1{path}");
        match route {
            Route::Trigger(_) => "/api/v1/{kind}/{workflow_id}/webhook".to_owned(),
            Route::CallerRun { part, .. } => {
                format!("/api/v1/{{kind}}/{{workflow_id}}/runs/{{run_id}}{}", of_part(part))
            }
            Route::Workflows => below("/workflows"),
            Route::Workflow(_) => below("/workflows/{kind}/{workflow_id}"),
            Route::Webhooks => below("/webhooks"),
            Route::Webhook { part, .. } => below(match part {
                WebhookPart::Record => "/webhooks/{id}",
                WebhookPart::Url => "/webhooks/{id}/url",
                WebhookPart::RefreshToken => "/webhooks/{id}/refresh-token",
                WebhookPart::Run => "/webhooks/{id}/run",
                WebhookPart::TestNotification => "/webhooks/{id}/test-notification",
            }),
            Route::Runs => below("/runs"),
            Route::Run { part, .. } => below(&format!("/runs/{{id}}{}", of_part(part))),
            Route::CancelRun(_) => below("/runs/{id}/cancel"),
            Route::RetryRun(_) => below("/runs/{id}/retry"),
            Route::Deliveries => below("/deliveries"),
            Route::ResendDeliveries => below("/deliveries/resend"),
            Route::ResendDelivery(_) => below("/deliveries/{id}/resend"),
            Route::Events => below("/events"),
            Route::Description => "/api/v1/openapi.json".to_owned(),
            Route::Metrics => "/metrics".to_owned(),
            Route::Health => "/healthz".to_owned(),
            Route::Ready => "/readyz".to_owned(),
        }
    }

    #[test]
    fn every_route_is_described_with_its_methods_and_every_description_is_routed() {
        let document = document();
        let paths = document["paths"].as_object().unwrap();
        // As many as `template` can answer.
        assert_eq!(paths.len(), 26);
        for (path, item) in paths {
            let route = sample(path).unwrap_or_else(|| panic!("{path} is not routed"));
            assert_eq!(&template(&route), path);
            let described: BTreeSet<String> =
                item.as_object().unwrap().keys().map(|method| method.to_uppercase()).collect();
            let answered: BTreeSet<String> = route.methods().iter().map(ToString::to_string).collect();
            assert_eq!(described, answered, "{path}");
        }
    }

    #[test]
    fn every_problem_but_the_method_is_described_and_every_reference_leads_somewhere() {
        let document = document();
        let text = document.to_string();
        for slug in Slug::ALL.into_iter().filter(|slug| *slug != Slug::MethodNotAllowed) {
            assert!(text.contains(&format!("urn:webhook:problem:{}\"", slug.as_str())), "{slug:?}");
        }
        for reference in text.split("#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(document["components"]["schemas"].get(name).is_some(), "{name}");
        }
    }
}
