//! Compares the public API of each crate with its listing in `docs/public-api`, and looks in it for crates below 1.0.
//!
//! It needs the JSON of rustdoc, which only `.ci/api` makes; without it, nothing is compared. `.ci/api bless` writes the listings.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::collections::BTreeSet;
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
fn listing(json: &Path) -> String {
    let api = public_api::Builder::from_rustdoc_json(json)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build();
    api.unwrap_or_else(|error| panic!("{}: {error}", json.display())).to_string()
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
    let mut faults = String::new();
    for name in crates(&metadata) {
        let json = root().join(&folder).join(format!("{}.json", name.replace('-', "_")));
        let present = listing(&json);
        assert!(!present.is_empty(), "{name} has no public API");
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
