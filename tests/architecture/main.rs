//! Tests of the architecture: directions of imports, files of crates, and names of types.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod imports;
mod language;
mod layers;
mod manifests;
mod pages;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// Returns cargo's metadata of all packages that are built on this platform.
fn metadata() -> Value {
    let version = Command::new("rustc").arg("-vV").output().unwrap().stdout;
    let version = String::from_utf8(version).unwrap();
    let platform = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", platform])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Returns the path of a file within the workspace.
fn short(file: &Path) -> String {
    file.strip_prefix(root()).unwrap_or(file).display().to_string()
}

/// Returns the packages of the workspace.
fn members(metadata: &Value) -> impl Iterator<Item = &Value> {
    let members = metadata["workspace_members"].as_array().unwrap();
    metadata["packages"].as_array().unwrap().iter().filter(|package| members.contains(&package["id"]))
}

/// Returns the root file of each library with modules, by the name of its crate.
fn crate_roots() -> BTreeMap<String, PathBuf> {
    let metadata = metadata();
    let mut roots = BTreeMap::new();
    for package in members(&metadata) {
        let targets = package["targets"].as_array().unwrap();
        let is_library = |target: &&Value| target["kind"].as_array().unwrap().contains(&"lib".into());
        if let Some(library) = targets.iter().find(is_library) {
            let name = package["name"].as_str().unwrap().to_owned();
            roots.insert(name, PathBuf::from(library["src_path"].as_str().unwrap()));
        }
    }
    roots
}

/// Returns the direct dependencies of each workspace crate, without those for tests.
fn dependencies(metadata: &Value) -> BTreeMap<String, BTreeSet<String>> {
    members(metadata)
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap().iter();
            let used = dependencies.filter(|dependency| dependency["kind"].is_null());
            let names = used.map(|dependency| dependency["name"].as_str().unwrap().to_owned()).collect();
            (package["name"].as_str().unwrap().to_owned(), names)
        })
        .collect()
}

#[test]
fn no_files_of_a_crate_import_each_other_in_a_circle() {
    let metadata = metadata();
    let (mut seen, mut circles) = (0, String::new());
    for package in members(&metadata) {
        let name = package["name"].as_str().unwrap();
        for target in package["targets"].as_array().unwrap() {
            let file = Path::new(target["src_path"].as_str().unwrap());
            let imports = imports::imports_of(file);
            seen += imports.len();
            for cycle in imports::cycles(&imports) {
                let target = target["name"].as_str().unwrap();
                circles += &format!("{name}, {target}: {} files import each other:\n", cycle.len());
                circles += &described(&imports, &cycle);
            }
        }
    }
    assert!(seen > 300, "{seen} files were read");
    assert!(circles.is_empty(), "\n{circles}");
}

/// Returns the imports within a circle, one line for each.
fn described(imports: &imports::Imports, cycle: &BTreeSet<PathBuf>) -> String {
    let mut text = String::new();
    for file in cycle {
        for (imported, names) in imports[file].iter().filter(|(imported, _)| cycle.contains(*imported)) {
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            text += &format!("    {} imports {}: {}\n", short(file), short(imported), names.join(", "));
        }
    }
    text
}

#[test]
fn adapters_import_the_core_and_no_other_adapter() {
    let dependencies = dependencies(&metadata());
    assert!(dependencies.len() >= 6, "{:?}", dependencies.keys());
    for (name, used) in &dependencies {
        let ours: BTreeSet<&str> =
            used.iter().map(String::as_str).filter(|used| used.starts_with("webhook-")).collect();
        let expected: BTreeSet<&str> = match name.as_str() {
            "webhook-core" => BTreeSet::new(),
            "webhook-panel" => BTreeSet::from(["webhook-core", "webhook-http"]),
            "webhook-tower" => BTreeSet::from(["webhook-core", "webhook-http", "webhook-panel"]),
            "webhook-axum" | "webhook-warp" => {
                BTreeSet::from(["webhook-core", "webhook-http", "webhook-panel", "webhook-tower"])
            }
            "webhook-trigger" => BTreeSet::from([
                "webhook-axum",
                "webhook-core",
                "webhook-http",
                "webhook-notify",
                "webhook-panel",
                "webhook-postgres",
                "webhook-process",
                "webhook-sled",
                "webhook-tower",
                "webhook-warp",
            ]),
            "webhook-server" => BTreeSet::from([
                "webhook-core",
                "webhook-notify",
                "webhook-postgres",
                "webhook-process",
                "webhook-sled",
                "webhook-warp",
            ]),
            _ => BTreeSet::from(["webhook-core"]),
        };
        assert_eq!(ours, expected, "{name}");
    }
    let foreign = [
        "axum",
        "warp",
        "tower-service",
        "hyper",
        "http",
        "sled",
        "reqwest",
        "lettre",
        "tokio-postgres",
        "sqlx",
    ];
    for name in foreign {
        assert!(!dependencies["webhook-core"].contains(name), "webhook-core names {name}");
        if name != "http" {
            assert!(!dependencies["webhook-http"].contains(name), "webhook-http names {name}");
        }
    }
}

#[test]
fn changelog_readme_and_licences_are_there() {
    for file in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "LICENSE-MIT", "LICENSE-APACHE"] {
        assert!(root().join(file).is_file(), "{file}");
    }
}

#[test]
fn the_quick_start_of_readme_and_guide_is_the_minimal_example() {
    let read = |file: &str| std::fs::read_to_string(root().join(file)).unwrap();
    let example = read("examples/minimal.rs");
    let code = example.find("use std").map(|start| example[start..].trim_end()).unwrap();
    assert!(read("README.md").contains(code), "README.md and examples/minimal.rs differ");
    let guide: Vec<_> = code.lines().map(|line| format!("//! {line}").trim_end().to_owned()).collect();
    assert!(read("src/lib.rs").contains(&guide.join("\n")), "src/lib.rs and examples/minimal.rs differ");
}

/// Returns the folders with the code of every crate, relative to the root.
fn code_folders() -> Vec<PathBuf> {
    let crates = std::fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path());
    let crates = crates.filter(|folder| folder.join("Cargo.toml").is_file() && !folder.ends_with("fuzz"));
    let own = ["benches", "examples", "src", "tests", "fuzz/fuzz_targets"];
    own.into_iter().map(|folder| root().join(folder)).chain(crates).collect()
}

/// Returns the quoted paths that follow `marker` in the code of a file.
fn quoted_paths<'a>(source: &'a str, marker: &'a str) -> impl Iterator<Item = &'a str> {
    source.split(marker).skip(1).filter_map(|rest| rest.split('"').nth(1))
}

/// Resolves the `..` of a path without looking at the disk.
fn normalized(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut normal, part| {
        if part == std::path::Component::ParentDir {
            normal.pop();
        } else {
            normal.push(part);
        }
        normal
    })
}

/// Returns the folder of the crate that a file belongs to.
fn crate_of(file: &Path) -> &Path {
    file.ancestors().skip(1).find(|folder| folder.join("Cargo.toml").is_file()).unwrap()
}

#[test]
fn no_crate_includes_a_file_of_another() {
    let markers = ["#[path = ", "include!(", "include_str!(", "include_bytes!("];
    let (mut checked, mut offenders) = (0, Vec::new());
    for file in code_folders().iter().flat_map(|folder| rust_files(folder)) {
        let source = std::fs::read_to_string(&file).unwrap();
        // This file names the markers.
        for marker in markers.into_iter().filter(|_| !file.ends_with("tests/architecture/main.rs")) {
            for path in quoted_paths(&source, marker) {
                checked += 1;
                if crate_of(&normalized(&file.with_file_name(path))) != crate_of(&file) {
                    offenders.push(format!("{} includes {path}", file.display()));
                }
            }
        }
    }
    assert!(checked > 5, "only {checked} included files were found");
    assert_eq!(offenders, Vec::<String>::new());
}

#[test]
fn no_two_public_types_have_one_name() {
    let mut places: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for file in code_folders().iter().flat_map(|folder| rust_files(folder)) {
        if !file.iter().any(|part| part == "src") {
            continue;
        }
        for line in std::fs::read_to_string(&file).unwrap().lines() {
            let mut words = line.split_whitespace();
            let (Some("pub"), Some("struct" | "enum" | "trait" | "type" | "union"), Some(name)) =
                (words.next(), words.next(), words.next())
            else {
                continue;
            };
            let name: String = name.chars().take_while(|it| it.is_alphanumeric() || *it == '_').collect();
            // A macro names its types itself.
            if name.is_empty() {
                continue;
            }
            places.entry(name).or_default().push(file.strip_prefix(root()).unwrap().to_owned());
        }
    }
    assert!(places.len() > 100, "only {} public types were found", places.len());
    places.retain(|_, files| files.len() > 1);
    assert_eq!(places, BTreeMap::new());
}
