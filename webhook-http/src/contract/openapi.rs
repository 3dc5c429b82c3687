//! The contract described for programs: an OpenAPI 3.1 document, made from the table of operations.
//!
//! It is made once, at the first request for it.

mod answer_headers;
mod described;
mod schemas;

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use serde_json::{Map, Value, json};
use url::Url;

use crate::contract::operation::Verb;
use crate::contract::operations::PATHS;
use crate::headers;
use crate::response::answer::{Answer, not_modified, set, with_body};
use schemas::Schemas;

/// Rules of every operation.
const DESCRIPTION: &str = "Every answer has `Cache-Control: no-store`, `Referrer-Policy: no-referrer` and \
     `X-Content-Type-Options: nosniff`. Every error is a problem (RFC 9457). A method that a path does not have is \
     answered with 405, the problem `method-not-allowed`, and `Allow`. The paths below `/admin` answer 403 \
     `cross-site-refused` to what a page of another site may have caused, and 429 to wrong tokens that come too often \
     from one address. Whole numbers in parameters are exact up to 64 bits, and larger ones are refused. What is no \
     proper HTTP is refused with 400, 414, 431, 501 or 505, by the hardened server with a problem of the type \
     `about:blank`.";

/// The document as it is sent.
#[derive(Debug)]
pub(crate) struct Rendered {
    content: Bytes,
    tag: String,
}

/// Renders the document of a service that is mounted below `base`.
pub(crate) fn rendered(base: &Url) -> Rendered {
    let mut document = document();
    document["servers"] = json!([{"url": base.as_str().trim_end_matches('/')}]);
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

fn document() -> Value {
    let mut schemas = Schemas::new();
    let mut paths = Map::new();
    for path in PATHS {
        let mut item = Map::new();
        for (operation, spec) in path.operations {
            let id = described::operation_id(*operation);
            let described = described::operation(path, &id, spec, &mut schemas);
            item.insert(spec.verb.as_str().to_ascii_lowercase(), described);
            if spec.answers_head && spec.verb == Verb::Get {
                item.insert("head".to_owned(), described::head(path, &id, spec, &mut schemas));
            }
        }
        paths.insert(path.template.as_str().to_owned(), Value::Object(item));
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
            "schemas": schemas.into_components(),
            "securitySchemes": {
                "webhook_token": bearer("The token of the webhook"),
                "webhook_token_in_query": in_query,
                "admin_token": bearer("The token of the management paths"),
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::slug::Slug;

    #[test]
    fn every_problem_but_the_method_is_described_and_every_reference_leads_somewhere() {
        let document = document();
        let text = document["paths"].to_string();
        for slug in Slug::ALL.into_iter().filter(|slug| *slug != Slug::MethodNotAllowed) {
            assert!(text.contains(&format!("\"{}\"", slug.urn())), "{slug:?}");
        }
        for reference in document.to_string().split("#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(document["components"]["schemas"].get(name).is_some(), "{name}");
        }
    }

    #[test]
    fn objects_in_answers_have_no_other_members_than_described() {
        let document = document();
        let schemas = &document["components"]["schemas"];
        for closed in ["Webhook", "Run", "CallerRun", "Accepted", "Ended", "Workflow", "RunPage", "Delivery"]
        {
            assert_eq!(schemas[closed]["additionalProperties"], false, "{closed}");
        }
        for (closed, members) in [("Run", 21), ("Webhook", 27)] {
            assert_eq!(schemas[closed]["properties"].as_object().unwrap().len(), members, "{closed}");
        }
    }
}
