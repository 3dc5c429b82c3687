//! Pages: the files that they name exist, and so do those that they link to.

use std::path::{Path, PathBuf};

use super::root;

/// Ends of the names by which a page refers to a file of the workspace.
const ENDS: [&str; 6] = [".rs", ".js", ".py", ".toml", ".html", ".md"];

/// Returns the files below a folder, without those that builds make.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let is_made = name == "target" || name == "node_modules" || (name.starts_with('.') && name != ".ci");
        match path.is_dir() {
            true if !is_made => files(&path, found),
            true => {}
            false => found.push(path),
        }
    }
}

/// Returns the texts between two marks in one line.
fn between<'a>(line: &'a str, start: &'a str, end: &'a str) -> impl Iterator<Item = &'a str> {
    line.split(start).skip(1).filter_map(move |rest| rest.split_once(end)).map(|(text, _)| text)
}

/// Returns whether a text is the path of a file, or the end of one.
fn is_path(text: &str) -> bool {
    let may_stand = |it: char| it.is_ascii_alphanumeric() || "/._-".contains(it);
    ENDS.iter().any(|end| text.ends_with(end) && text.len() > end.len()) && text.chars().all(may_stand)
}

#[test]
fn the_pages_name_and_link_only_files_that_exist() {
    let mut all = Vec::new();
    files(&root(), &mut all);
    let is_page = |path: &&PathBuf| {
        let relative = path.strip_prefix(root()).unwrap();
        let is_here = relative.components().count() == 1 || relative.starts_with("docs");
        // The change log may name files of the past.
        is_here
            && relative.extension().is_some_and(|end| end == "md")
            && !relative.starts_with("CHANGELOG.md")
    };
    let mut dead = Vec::new();
    for page in all.iter().filter(is_page) {
        let text = std::fs::read_to_string(page).unwrap();
        for (index, line) in text.lines().enumerate() {
            let place = format!("{}:{}", page.strip_prefix(root()).unwrap().display(), index + 1);
            // Code stands between each second pair of marks.
            for name in line.split('`').skip(1).step_by(2).filter(|name| is_path(name)) {
                if !all.iter().any(|file| file.ends_with(name)) {
                    dead.push(format!("{place} names {name}"));
                }
            }
            for link in
                between(line, "](", ")").filter(|link| !link.contains("://") && !link.starts_with('#'))
            {
                let target = link.split('#').next().unwrap_or_default();
                if !page.parent().unwrap().join(target).exists() {
                    dead.push(format!("{place} links to {link}"));
                }
            }
        }
    }
    assert!(dead.is_empty(), "{dead:#?}");
}
