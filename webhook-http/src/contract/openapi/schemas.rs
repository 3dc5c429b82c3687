//! Schemas of the document, derived from wire types.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::contract::fields::SchemaOf;
use crate::contract::slug::Slug;
use crate::contract::wire::problem::ProblemDocument;

/// Path of the schemas within the document.
const DEFINITIONS: &str = "/components/schemas";

/// Collects the schemas that operations refer to.
pub(super) struct Schemas {
    requests: SchemaGenerator,
    answers: SchemaGenerator,
}

impl Schemas {
    pub(super) fn new() -> Self {
        let settings =
            || SchemaSettings::draft2020_12().with(|settings| settings.definitions_path = DEFINITIONS.into());
        Self {
            requests: settings().for_deserialize().into_generator(),
            answers: settings().for_serialize().into_generator(),
        }
    }

    /// Returns the schema of a request's body.
    pub(super) fn request(&mut self, schema: SchemaOf) -> Value {
        tidied(schema(&mut self.requests).to_value())
    }

    /// Returns the schema of an answer's body.
    pub(super) fn answer(&mut self, schema: SchemaOf) -> Value {
        tidied(schema(&mut self.answers).to_value())
    }

    /// Returns the schema of a problem.
    pub(super) fn problem(&mut self) -> Value {
        self.answer(of::<ProblemDocument<'static>>())
    }

    /// Returns all schemas by name.
    pub(super) fn into_components(mut self) -> Map<String, Value> {
        let mut all = Map::new();
        for (name, schema) in self.requests.take_definitions(true) {
            all.insert(name, tidied(schema));
        }
        for (name, mut schema) in self.answers.take_definitions(true) {
            without_defaults(&mut schema);
            all.insert(name, tidied(schema));
        }
        let mut types: Vec<String> = Slug::ALL.into_iter().map(Slug::urn).collect();
        types.dedup();
        all["Problem"]["properties"]["type"]["enum"] = json!(types);
        all
    }
}

fn of<T: JsonSchema>() -> SchemaOf {
    SchemaGenerator::subschema_for::<T>
}

/// Puts a schema into the form of the document.
fn tidied(mut schema: Value) -> Value {
    tidy(&mut schema);
    schema
}

fn tidy(schema: &mut Value) {
    match schema {
        Value::Array(items) => {
            for item in items {
                tidy(item);
            }
        }
        Value::Object(members) => {
            for member in members.values_mut() {
                tidy(member);
            }
            as_enumeration(members);
            if let Some(Value::String(text)) = members.get_mut("description") {
                *text = plain(text);
            }
            // The bounds express the same, and no format stands for an address of either version.
            if members.get("format").and_then(Value::as_str).is_some_and(|format| {
                ["uint", "int"].iter().any(|integer| format.starts_with(integer))
                    || format == "double"
                    || format == "ip"
            }) {
                members.remove("format");
            }
            close(members);
        }
        _ => {}
    }
}

/// Lists texts that are described one by one in one `enum`, which generators of clients understand.
fn as_enumeration(schema: &mut Map<String, Value>) {
    let Some(Value::Array(alternatives)) = schema.get("oneOf") else { return };
    let names: Option<Vec<Value>> =
        alternatives.iter().map(|alternative| alternative.get("const").cloned()).collect();
    if let Some(names) = names {
        schema.remove("oneOf");
        schema.insert("type".to_owned(), json!("string"));
        schema.insert("enum".to_owned(), Value::Array(names));
    }
}

/// Keywords that put a schema together of several.
const COMPOSITIONS: [&str; 3] = ["oneOf", "anyOf", "allOf"];

/// Lets a part of an object have other members, which stand in its other parts.
fn open(part: &mut Value) {
    match part {
        Value::Array(parts) => parts.iter_mut().for_each(open),
        Value::Object(members) => {
            members.remove("unevaluatedProperties");
            if members.get("additionalProperties") == Some(&Value::Bool(false)) {
                members.remove("additionalProperties");
            }
            for name in COMPOSITIONS {
                members.get_mut(name).into_iter().for_each(open);
            }
        }
        _ => {}
    }
}

/// Says that an object has no other members, unless it says otherwise.
fn close(schema: &mut Map<String, Value>) {
    let is_composed = COMPOSITIONS.iter().any(|name| schema.contains_key(*name));
    if is_composed && (schema.contains_key("properties") || schema.contains_key("allOf")) {
        for part in COMPOSITIONS.iter().filter_map(|name| schema.remove_entry(*name)).collect::<Vec<_>>() {
            let (name, mut parts) = part;
            open(&mut parts);
            schema.insert(name, parts);
        }
        schema.remove("additionalProperties");
        schema.insert("unevaluatedProperties".to_owned(), Value::Bool(false));
        return;
    }
    let has_members = schema.get("properties").is_some_and(Value::is_object);
    match schema.get("additionalProperties") {
        None if has_members => {
            schema.insert("additionalProperties".to_owned(), Value::Bool(false));
        }
        Some(Value::Bool(true)) => {
            schema.remove("additionalProperties");
        }
        _ => {}
    }
}

/// Removes defaults, which have no meaning in an answer with all its members.
fn without_defaults(schema: &mut Value) {
    let Some(members) = schema.get_mut("properties").and_then(Value::as_object_mut) else { return };
    for member in members.values_mut().filter_map(Value::as_object_mut) {
        member.remove("default");
    }
}

/// Returns the first paragraph of a doc comment, in words of JSON and without links into the code.
fn plain(comment: &str) -> String {
    let paragraph = comment.split("\n\n").next().unwrap_or_default();
    paragraph.replace('\n', " ").replace("`None`", "`null`").replace("[`", "`").replace("`]", "`")
}
