//! Layers: each module imports only modules of the layers below its own. ARCHITECTURE.md has the table.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::imports::{Imports, imports_of};
use super::{crate_roots, root, short};

/// The row of one module: the layers of the modules within it, lowest first.
struct Row {
    /// Path of the module, such as `webhook-core::service`; that of a crate is its name.
    of: Vec<String>,
    /// The module's own file, if it does not stand above all of its modules.
    layers: Vec<Vec<String>>,
}

/// Stands in a row for the module's own file. Where it is not named, it stands above all others.
const OWN_FILE: &str = "mod.rs";

/// Returns the rows of the table in ARCHITECTURE.md.
fn rows() -> Vec<Row> {
    let page = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let table = page.split_once("\n### Layers\n").expect("ARCHITECTURE.md has the layers").1;
    let lines =
        table.lines().skip_while(|line| !line.starts_with("| `")).take_while(|line| line.starts_with('|'));
    lines.map(row).collect()
}

/// Reads a row such as `` | `webhook-core` | `a`, `b` < `c` | ``.
fn row(line: &str) -> Row {
    let cells: Vec<_> = line.trim_matches('|').split('|').map(|cell| cell.replace('`', "")).collect();
    let [of, layers] = cells.as_slice() else { panic!("two cells are expected: {line}") };
    let layer = |names: &str| names.split(", ").map(|name| name.trim().to_owned()).collect();
    Row {
        of: of.trim().split("::").map(ToOwned::to_owned).collect(),
        layers: layers.split(" < ").map(layer).collect(),
    }
}

/// Returns the path of a file's module within its crate.
fn module_of(file: &Path, source: &Path) -> Vec<String> {
    let file = file.strip_prefix(source).unwrap().with_extension("");
    let mut path: Vec<_> = file.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    path.pop_if(|last| last == "mod" || (last == "lib"));
    path
}

/// Returns the problems of one row, one line for each.
fn problems(row: &Row, source: &Path, imports: &Imports) -> Vec<String> {
    let within = &row.of[1..];
    // The module within the row's module that a file belongs to.
    let part_of = |file: &Path| {
        let module = module_of(file, source);
        let rest = module.strip_prefix(within)?;
        Some(rest.first().cloned().unwrap_or_else(|| OWN_FILE.to_owned()))
    };
    let layer_of = |part: &String| match row.layers.iter().position(|layer| layer.contains(part)) {
        None if part == OWN_FILE => Some(row.layers.len()),
        layer => layer,
    };
    let of = row.of.join("::");
    let mut problems = Vec::new();
    let parts: BTreeSet<_> = imports.keys().filter_map(|file| part_of(file)).collect();
    for part in row.layers.iter().flatten().filter(|part| !parts.contains(*part)) {
        problems.push(format!("{of} has no module {part}, but a layer names it"));
    }
    for part in parts.iter().filter(|part| layer_of(part).is_none()) {
        problems.push(format!("{of} has the module {part}, but no layer names it"));
    }
    for (file, imported) in imports {
        for (target, names) in imported {
            let (Some(part), Some(other)) = (part_of(file), part_of(target)) else { continue };
            let is_below = match (layer_of(&part), layer_of(&other)) {
                (Some(own), Some(others)) => others < own,
                // A module without a layer is a problem of its own.
                _ => true,
            };
            if part != other && !is_below {
                let names: Vec<_> = names.iter().map(String::as_str).collect();
                let (file, target) = (short(file), short(target));
                problems.push(format!(
                    "{of}: {part} imports {other}: {file} imports {target}: {}",
                    names.join(", ")
                ));
            }
        }
    }
    problems
}

#[test]
fn modules_import_only_modules_of_lower_layers() {
    let mut roots: BTreeMap<String, _> = crate_roots();
    let rows = rows();
    let mut found = Vec::new();
    for row in &rows {
        let Some(lib) = roots.get(&row.of[0]) else { panic!("there is no crate {}", row.of[0]) };
        found.extend(problems(row, lib.parent().unwrap(), &imports_of(lib)));
    }
    // A crate of one file has no modules to order.
    roots.retain(|name, lib| rows.iter().all(|row| row.of != [name.clone()]) && imports_of(lib).len() > 1);
    found.extend(roots.keys().map(|name| format!("ARCHITECTURE.md has no layers of {name}")));
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn an_upward_import_a_module_without_layer_and_a_layer_without_module_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, source: &str| std::fs::write(folder.path().join(name), source).unwrap();
    std::fs::create_dir(folder.path().join("high")).unwrap();
    write("lib.rs", "mod high; mod low;");
    write("low.rs", "pub struct Low;");
    write("high/mod.rs", "mod inner; use crate::low::Low; struct High;");
    write("high/inner.rs", "use super::High;");
    let problems =
        |line: &str| problems(&row(line), folder.path(), &imports_of(&folder.path().join("lib.rs"))).len();
    assert_eq!(problems("| `it` | `low` < `high` |"), 0);
    assert_eq!(problems("| `it` | `high` < `low` |"), 1);
    assert_eq!(problems("| `it` | `low`, `high` |"), 1);
    assert_eq!(problems("| `it` | `high` |"), 1);
    assert_eq!(problems("| `it` | `low` < `middle` < `high` |"), 1);
    assert_eq!(problems("| `it::high` | `inner` |"), 1);
    assert_eq!(problems("| `it::high` | `mod.rs` < `inner` |"), 0);
}
