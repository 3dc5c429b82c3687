//! The OpenAPI document, with which the tests compare every answer they read.

#![allow(dead_code, reason = "each file of tests is a crate that uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::sync::LazyLock;

use http_body_util::BodyExt;
use reqwest::header::HeaderMap;
use serde_json::Value;
use webhook_core::Webhooks;
use webhook_core::memory::MemoryStore;
use webhook_http::{AdminAccess, Api};
use webhook_testing::ScriptedExecutor;

/// Headers that every answer may have without being described.
const EVERYWHERE: [&str; 10] = [
    "cache-control",
    "connection",
    "content-length",
    "content-type",
    "cross-origin-resource-policy",
    "date",
    "referrer-policy",
    "server",
    "transfer-encoding",
    "x-content-type-options",
];

pub(crate) struct Description(pub(crate) Value);

static SHARED: LazyLock<Description> = LazyLock::new(|| {
    // Only the address in it depends on the service.
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let executor = ScriptedExecutor::new([]);
            let webhooks =
                Webhooks::builder().store(MemoryStore::new()).executor(executor).build().await.unwrap();
            let api = Api::new(webhooks, AdminAccess::Disabled);
            let (parts, ()) = http::Request::new(()).into_parts();
            let route = api.route("/api/v1/openapi.json").unwrap();
            let answer = api.handle(route, parts, None, http_body_util::Empty::<bytes::Bytes>::new()).await;
            let bytes = answer.into_body().collect().await.unwrap().to_bytes();
            Description(serde_json::from_slice(&bytes).unwrap())
        })
    })
    .join()
    .unwrap()
});

impl Description {
    pub(crate) fn shared() -> &'static Self {
        &SHARED
    }

    /// Returns the item of a path below any prefix, and the number of its fixed segments.
    pub(crate) fn item(&self, path: &str) -> Option<&Value> {
        let start = ["/admin/api/", "/api/", "/healthz", "/readyz", "/metrics"]
            .iter()
            .find_map(|own| path.find(own))?;
        let segments: Vec<&str> = path[start..].split('/').collect();
        let fits = |template: &str| {
            let template: Vec<&str> = template.split('/').collect();
            template.len() == segments.len()
                && template.iter().zip(&segments).all(|(own, given)| own.starts_with('{') || own == given)
        };
        let mut paths = self.0["paths"].as_object().unwrap().iter();
        paths.find(|(template, _)| fits(template)).map(|(_, item)| item)
    }

    /// Checks an answer to an unknown method: one of the path's methods must allow it.
    pub(crate) fn check_any(&self, path: &str, status: u16, headers: &HeaderMap, text: &str) {
        let Some(item) = self.item(path).filter(|_| status != 405) else { return };
        let checked = item.as_object().unwrap().values().map(|it| self.check(it, status, headers, text));
        let problems: Vec<String> = checked.filter_map(Result::err).collect();
        assert!(problems.len() < item.as_object().unwrap().len(), "{path}: {problems:?}\n{text}");
    }

    /// Returns whether an operation may answer so.
    pub(crate) fn check(
        &self,
        operation: &Value,
        status: u16,
        headers: &HeaderMap,
        text: &str,
    ) -> Result<(), String> {
        let answer = &operation["responses"][status.to_string()];
        if !answer.is_object() {
            return Err(format!("{status} is not described"));
        }
        check_headers(&answer["headers"], headers).map_err(|error| format!("{status}: {error}"))?;
        let given = headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let essence = given.split(';').next().unwrap();
        let content = &answer["content"];
        if text.is_empty() {
            return Ok(());
        }
        let of_type = if content["*/*"].is_object() { &content["*/*"] } else { &content[essence] };
        if !of_type.is_object() {
            return Err(format!("{status} with {essence:?} is not described"));
        }
        if !essence.ends_with("json") || !content["*/*"].is_null() {
            return Ok(());
        }
        let mut schema = of_type["schema"].clone();
        schema["components"] = self.0["components"].clone();
        let body: Value = serde_json::from_str(text).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        validator.validate(&body).map_err(|error| format!("{status}: {error} at {}", error.instance_path()))
    }
}

/// Checks that an answer has the described headers, as described, and no others.
fn check_headers(described: &Value, given: &HeaderMap) -> Result<(), String> {
    let described = described.as_object().unwrap();
    let known = |name: &str| described.keys().any(|own| own.eq_ignore_ascii_case(name));
    let more = given.keys().find(|name| !EVERYWHERE.contains(&name.as_str()) && !known(name.as_str()));
    if let Some(name) = more {
        return Err(format!("the header {name} is not described"));
    }
    for (name, header) in described {
        let Some(value) = given.get(name) else {
            if header["required"] == true {
                return Err(format!("the header {name} is missing"));
            }
            continue;
        };
        let text = value.to_str().map_err(|_| format!("the header {name} is no text"))?;
        let number = text.parse::<u64>().ok().filter(|_| header["schema"]["type"] == "integer");
        let value = number.map_or(Value::from(text), Value::from);
        let fits = jsonschema::validator_for(&header["schema"]).unwrap().is_valid(&value);
        if !fits || header["description"].as_str().is_none_or(str::is_empty) {
            return Err(format!("the header {name} is not as described: {text}"));
        }
    }
    Ok(())
}
