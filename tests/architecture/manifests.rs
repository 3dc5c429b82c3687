//! Manifests: each crate has the texts and the metadata that crates.io and docs.rs show.

use std::path::Path;

use serde_json::Value;

use super::{members, metadata, root};

/// Most keywords of a crate on crates.io, and most characters of one.
const KEYWORDS: usize = 5;
const KEYWORD_CHARACTERS: usize = 20;

/// Returns what a package lacks, one line for each.
fn lacks(package: &Value) -> Vec<String> {
    let folder = Path::new(package["manifest_path"].as_str().unwrap()).parent().unwrap();
    let name = package["name"].as_str().unwrap();
    let has_text = |key: &str| package[key].as_str().is_some_and(|text| !text.is_empty());
    let list = |key: &str| package[key].as_array().map_or(0, Vec::len);
    let read = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap_or_default();
    let mut missing = Vec::new();
    for key in ["description", "license", "readme", "rust_version"] {
        if !has_text(key) {
            missing.push(key.to_owned());
        }
    }
    for licence in ["LICENSE-APACHE", "LICENSE-MIT"] {
        if read(licence) != std::fs::read_to_string(root().join(licence)).unwrap() {
            missing.push(format!("the text of {licence}"));
        }
    }
    if !read("README.md").starts_with(&format!("# {name}\n")) {
        missing.push(format!("a README.md that begins with # {name}"));
    }
    let keywords = package["keywords"].as_array().into_iter().flatten();
    let is_short = |keyword: &Value| keyword.as_str().unwrap().len() <= KEYWORD_CHARACTERS;
    if !(1..=KEYWORDS).contains(&list("keywords")) || !keywords.into_iter().all(is_short) {
        missing.push(format!("one to {KEYWORDS} keywords of at most {KEYWORD_CHARACTERS} characters"));
    }
    if list("categories") == 0 {
        missing.push("categories".to_owned());
    }
    // All features of a crate, but never those that are for the workspace's own fuzz targets.
    let documented = &package["metadata"]["docs"]["rs"];
    let features = package["features"].as_object().unwrap();
    match (&documented["all-features"], &documented["features"], features.contains_key("fuzzing")) {
        (Value::Bool(true), Value::Null, false) | (Value::Null, Value::Array(_), _) => {}
        _ if features.contains_key("fuzzing") => {
            missing.push("features without fuzzing in [package.metadata.docs.rs]".to_owned());
        }
        _ => missing.push("all-features or features in [package.metadata.docs.rs]".to_owned()),
    }
    missing.iter().map(|missing| format!("{name} lacks {missing}")).collect()
}

#[test]
fn every_crate_has_what_crates_io_and_docs_rs_show() {
    let metadata = metadata();
    let found: Vec<_> = members(&metadata).flat_map(lacks).collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn a_manifest_without_anything_lacks_everything() {
    let folder = tempfile::tempdir().unwrap();
    let bare = serde_json::json!({
        "name": "bare",
        "manifest_path": folder.path().join("Cargo.toml"),
        "keywords": ["a-keyword-that-is-too-long"],
        "features": {"fuzzing": []},
        "metadata": {"docs": {"rs": {"all-features": true}}},
    });
    assert_eq!(lacks(&bare).len(), 10, "{:#?}", lacks(&bare));
}
