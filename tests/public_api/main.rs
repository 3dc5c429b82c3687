//! Compares the public API of each crate with its listing in `docs/public-api`, and looks in it for crates below 1.0.
//!
//! A type of the workspace is listed under the path at which a user reaches it, so a private file that is renamed changes no
//! listing. Of other crates, rustdoc knows only the module that defines a type.
//!
//! It needs the JSON of rustdoc, which only `.ci/api` makes; without it, nothing is compared. `.ci/api bless` writes the listings.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Crates that expose no type of a crate below 1.0. The others adapt such a crate.
const STABLE: [&str; 4] = ["webhook-core", "webhook-http", "webhook-notify", "webhook-panel"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn metadata() -> Value {
    let arguments = ["metadata", "--format-version", "1", "--locked", "--offline"];
    let output = Command::new(env!("CARGO")).args(arguments).current_dir(root()).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Returns the names of the workspace's crates with a library.
fn crates(metadata: &Value) -> Vec<String> {
    let members = metadata["workspace_members"].as_array().unwrap();
    let packages = metadata["packages"].as_array().unwrap().iter();
    let ours = packages.filter(|package| members.contains(&package["id"]));
    ours.map(|package| package["name"].as_str().unwrap().to_owned()).collect()
}

/// Returns the names in code of all crates below 1.0 that are not ours.
fn crates_below_one(metadata: &Value) -> BTreeSet<String> {
    let ours = crates(metadata);
    let packages = metadata["packages"].as_array().unwrap().iter();
    let below = packages.filter(|package| package["version"].as_str().unwrap().starts_with("0."));
    let names = below.map(|package| package["name"].as_str().unwrap().to_owned());
    names.filter(|name| !ours.contains(name)).map(|name| name.replace('-', "_")).collect()
}

/// Returns the public items of a crate, one line for each, without what the compiler or a derive implements.
fn listing(json: &Value) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), serde_json::to_vec(json).unwrap()).unwrap();
    let api = public_api::Builder::from_rustdoc_json(file.path())
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build();
    api.unwrap().to_string()
}

/// Kinds of items that signatures name.
const NAMED_KINDS: [&str; 5] = ["struct", "enum", "union", "trait", "type"];

/// Names of types and traits, each with the paths at which a user reaches it.
type PublicPaths = BTreeMap<String, BTreeSet<String>>;

/// Adds the types and traits of a listing.
fn add_public_paths(paths: &mut PublicPaths, listing: &str) {
    for line in listing.lines() {
        let mut words = line.split(' ').skip_while(|word| *word != "pub").skip(1);
        let (Some(kind), Some(rest)) = (words.next(), words.next()) else { continue };
        // An associated type of an implementation has no path.
        if NAMED_KINDS.contains(&kind) && !rest.starts_with('<') {
            let path = paths_in(rest).next().unwrap();
            let name = path.rsplit("::").next().unwrap();
            paths.entry(name.to_owned()).or_default().insert(path.to_owned());
        }
    }
}

/// Replaces the defining modules of the workspace's types in the JSON of another crate by their shortest public paths.
fn publish_paths(json: &mut Value, public: &PublicPaths) {
    for item in json["paths"].as_object_mut().unwrap().values_mut() {
        let path = item["path"].as_array_mut().unwrap();
        let name = path.last().and_then(Value::as_str).unwrap_or_default();
        // The workspace has no two public types of one name, but other crates have such names too.
        let known = public.get(name).into_iter().flatten();
        let known = known.filter(|known| known.split("::").next() == path[0].as_str());
        if let Some(known) = known.min_by_key(|known| known.matches("::").count()) {
            *path = known.split("::").map(Value::from).collect();
        }
    }
}

/// Returns the paths of a text.
fn paths_in(text: &str) -> impl Iterator<Item = &str> {
    let is_part = |character: char| character.is_alphanumeric() || character == '_' || character == ':';
    text.split(move |character| !is_part(character)).map(|path| path.trim_matches(':'))
}

/// Returns the paths of the workspace's types in a listing that no user can name.
fn private_paths(listing: &str, ours: &[String], public: &PublicPaths) -> BTreeSet<String> {
    // A re-export is no type of its own.
    let lines = listing.lines().filter(|line| !line.starts_with("pub use "));
    // The name of a constant has no lower case.
    let is_type = |part: &str| {
        part.starts_with(char::is_uppercase) && part.contains(|character: char| character.is_lowercase())
    };
    let types = lines.flat_map(paths_in).filter_map(|path| {
        let parts: Vec<_> = path.split("::").collect();
        let is_ours = ours.iter().any(|name| name == parts[0]);
        let name = parts.iter().position(|part| is_type(part)).filter(|_| is_ours)?;
        Some((parts[name], parts[..=name].join("::")))
    });
    let is_private = |name: &str, path: &String| public.get(name).is_none_or(|known| !known.contains(path));
    types.filter(|(name, path)| is_private(name, path)).map(|(_, path)| path).collect()
}

/// Returns the crates that the paths of a listing begin with.
fn named_crates(listing: &str) -> BTreeSet<&str> {
    let is_name = |character: char| character.is_alphanumeric() || character == '_';
    let words = listing.match_indices("::").filter_map(|(end, _)| {
        let start = listing[..end].rfind(|character| !is_name(character)).map_or(0, |place| place + 1);
        // A segment in the middle of a path is no crate.
        (!listing[..start].ends_with("::")).then(|| &listing[start..end])
    });
    words.filter(|word| !word.is_empty()).collect()
}

/// Describes the first lines in which two listings differ.
fn difference(expected: &str, present: &str) -> String {
    let (old, new): (BTreeSet<_>, BTreeSet<_>) = (expected.lines().collect(), present.lines().collect());
    let gone = old.difference(&new).map(|line| format!("- {line}\n"));
    let come = new.difference(&old).map(|line| format!("+ {line}\n"));
    gone.chain(come).take(40).collect()
}

#[test]
fn the_public_api_is_the_listed_one_and_stable_crates_expose_no_crate_below_one() {
    let Some(folder) = std::env::var_os("RUSTDOC_JSON").map(PathBuf::from) else {
        eprintln!("SKIPPED: the public API is not compared, since .ci/api alone makes the JSON of rustdoc");
        return;
    };
    let bless = std::env::var_os("BLESS").is_some();
    let metadata = metadata();
    let below_one = crates_below_one(&metadata);
    let names = crates(&metadata);
    let ours: Vec<_> = names.iter().map(|name| name.replace('-', "_")).collect();
    let read = |name: &String| -> Value {
        let text = fs::read(root().join(&folder).join(format!("{name}.json"))).unwrap();
        serde_json::from_slice(&text).unwrap()
    };
    let mut apis: Vec<_> = ours.iter().map(read).collect();
    let mut public = PublicPaths::new();
    for api in &apis {
        add_public_paths(&mut public, &listing(api));
    }
    let mut faults = String::new();
    for (name, api) in names.iter().zip(&mut apis) {
        publish_paths(api, &public);
        let present = listing(api);
        assert!(!present.is_empty(), "{name} has no public API");
        let private = private_paths(&present, &ours, &public);
        if !private.is_empty() {
            faults += &format!("{name} exposes {private:?}, which no user can name\n");
        }
        let file = root().join(format!("docs/public-api/{name}.txt"));
        if bless {
            fs::write(&file, &present).unwrap();
        }
        let expected = fs::read_to_string(&file).unwrap_or_default();
        if expected != present {
            faults +=
                &format!("{name}, if it is meant, run `.ci/api bless`:\n{}", difference(&expected, &present));
        }
        let exposed: Vec<_> =
            named_crates(&present).into_iter().filter(|named| below_one.contains(*named)).collect();
        if STABLE.contains(&name.as_str()) && !exposed.is_empty() {
            faults += &format!("{name} exposes {exposed:?}, which are below 1.0\n");
        }
    }
    assert!(faults.is_empty(), "\n{faults}");
}

#[test]
fn crates_are_found_in_paths() {
    let listing =
        "impl core::convert::From<minijinja::error::Error> for a::B\npub fn a::b() -> &'static c::D";
    assert_eq!(named_crates(listing), BTreeSet::from(["a", "c", "core", "minijinja"]));
}

#[test]
fn a_type_is_listed_under_its_public_path() {
    let mut public = PublicPaths::new();
    add_public_paths(
        &mut public,
        "#[non_exhaustive] pub struct ours::far::Near<T>(_)\npub struct ours::Near<T>(_)\npub fn ours::Near::new()",
    );
    let mut json = serde_json::json!({"paths": {
        "1": {"path": ["ours", "private", "Near"]},
        "2": {"path": ["theirs", "private", "Near"]},
    }});
    publish_paths(&mut json, &public);
    assert_eq!(json["paths"]["1"]["path"], serde_json::json!(["ours", "Near"]));
    assert_eq!(json["paths"]["2"]["path"], serde_json::json!(["theirs", "private", "Near"]));

    let listing = "pub use ours::Other\npub const ours::far::NEAR: u8\n\
        pub fn ours::Near<T>::f(ours::private::Near<u8>, theirs::private::Near, &ours::Hidden)";
    let private = private_paths(listing, &["ours".to_owned()], &public);
    assert_eq!(private, BTreeSet::from(["ours::Hidden", "ours::private::Near"].map(ToOwned::to_owned)));
}
