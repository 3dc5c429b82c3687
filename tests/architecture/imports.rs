//! Imports between the files of a crate, read from its syntax trees.
//!
//! A file is a module. `mod x;` is no import, nor is a re-export of a descendant that the file does not use itself. A name
//! that is re-exported counts as imported from the file that defines it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, ItemUse, UseTree, Visibility};

/// Path of a module within its crate; empty for the root.
type ModulePath = Vec<String>;

/// Files of a crate, each with those that it imports and the names that it imports from them.
pub(crate) type Imports = BTreeMap<PathBuf, BTreeMap<PathBuf, BTreeSet<String>>>;

/// Returns the imports between the files of the crate with this root file.
pub(crate) fn imports_of(root: &Path) -> Imports {
    let mut modules = Modules::default();
    modules.read_file(Vec::new(), root);
    modules.imports()
}

/// Returns each set of files that import each other in a circle.
pub(crate) fn cycles(imports: &Imports) -> Vec<BTreeSet<PathBuf>> {
    let mut reachable: BTreeMap<&Path, BTreeSet<&Path>> = BTreeMap::new();
    for file in imports.keys() {
        let (mut found, mut left) = (BTreeSet::new(), vec![file.as_path()]);
        while let Some(next) = left.pop() {
            for imported in imports.get(next).into_iter().flat_map(BTreeMap::keys) {
                if found.insert(imported.as_path()) {
                    left.push(imported);
                }
            }
        }
        reachable.insert(file, found);
    }
    let mut cycles = BTreeSet::new();
    for (file, from) in &reachable {
        if from.contains(file) {
            let back = from.iter().filter(|other| reachable.get(*other).is_some_and(|to| to.contains(file)));
            cycles.insert(back.map(|other| other.to_path_buf()).collect::<BTreeSet<_>>());
        }
    }
    cycles.into_iter().collect()
}

#[derive(Default)]
struct Modules(BTreeMap<ModulePath, Module>);

#[derive(Default)]
struct Module {
    file: PathBuf,
    uses: Vec<Use>,
    /// Paths in the code, as written.
    paths: BTreeSet<Vec<String>>,
    /// Names that are defined here.
    defined: BTreeSet<String>,
}

/// Names that are being looked up, each with its module. A look-up that leads back to one of them finds nothing there.
type Trail = Vec<(ModulePath, String)>;

/// A module, or the module that defines an item.
enum Definition {
    Module(ModulePath),
    ItemOf(ModulePath),
}

impl Definition {
    fn module(self) -> ModulePath {
        match self {
            Self::Module(module) | Self::ItemOf(module) => module,
        }
    }
}

/// One name of a `use` declaration.
struct Use {
    path: Vec<String>,
    /// The name that it has here; `None` for `*`.
    name: Option<String>,
    is_reexport: bool,
}

impl Modules {
    fn read_file(&mut self, path: ModulePath, file: &Path) {
        let source =
            std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let parsed = syn::parse_file(&source).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let folder = file.parent().unwrap();
        let is_root = path.is_empty() || file.ends_with("mod.rs");
        let children = if is_root { folder.to_owned() } else { file.with_extension("") };
        self.read_items(path, file, &children, &parsed.items);
    }

    /// Reads the items of a module. `children` is the folder of the files of its modules.
    fn read_items(&mut self, path: ModulePath, file: &Path, children: &Path, items: &[Item]) {
        let mut reader = Reader::default();
        for item in items {
            reader.visit_item(item);
        }
        for child in std::mem::take(&mut reader.modules) {
            let name = child.ident.to_string();
            let child_path: ModulePath = path.iter().cloned().chain([name.clone()]).collect();
            match &child.content {
                Some((_, items)) => self.read_items(child_path, file, &children.join(&name), items),
                None => self.read_file(child_path, &file_of(child, file, children)),
            }
        }
        let Reader { uses, paths, defined, .. } = reader;
        self.0.insert(path, Module { file: file.to_owned(), uses, paths, defined });
    }

    fn imports(&self) -> Imports {
        let mut imports = Imports::new();
        for (path, module) in &self.0 {
            let of_file = imports.entry(module.file.clone()).or_default();
            let declared = module.uses.iter().filter_map(|used| {
                let target = self.definition(path, &used.path, &mut Trail::new())?.module();
                let is_own = target.starts_with(path) && used.is_reexport;
                (!is_own).then_some((target, &used.path))
            });
            // `pub(crate)` and `pub(super)` in a macro name a module, but import nothing.
            let is_bare =
                |name: &&Vec<String>| matches!(name.as_slice(), [one] if one == "crate" || one == "super");
            let paths = module.paths.iter().filter(|name| !is_bare(name));
            let named = paths
                .filter_map(|name| Some((self.definition(path, name, &mut Trail::new())?.module(), name)));
            for (target, name) in declared.chain(named) {
                let file = &self.0[&target].file;
                if *file != module.file {
                    of_file.entry(file.clone()).or_default().insert(name.join("::"));
                }
            }
        }
        imports
    }

    /// Returns the module that a path names, or that defines what it names, if that is in this crate.
    fn definition(&self, from: &ModulePath, path: &[String], trail: &mut Trail) -> Option<Definition> {
        let (first, rest) = path.split_first()?;
        let mut found = match first.as_str() {
            "crate" => Definition::Module(Vec::new()),
            "self" => Definition::Module(from.clone()),
            "super" => Definition::Module(from.split_last()?.1.to_vec()),
            name => match self.child(from, name) {
                // A name alone is no module, but a local name or one that a `use` has brought.
                Some(child) if !rest.is_empty() => Definition::Module(child),
                _ => self.look_up(from, name, trail)?,
            },
        };
        for name in rest {
            let Definition::Module(module) = &found else { break };
            found = match (name.as_str(), self.child(module, name)) {
                ("super", _) => Definition::Module(module.split_last()?.1.to_vec()),
                (_, Some(child)) => Definition::Module(child),
                (name, None) => match self.look_up(module, name, trail) {
                    Some(used) => used,
                    // A macro that is exported has its name at the root, wherever it is defined.
                    None if module.is_empty() => return None,
                    None => Definition::ItemOf(module.clone()),
                },
            };
        }
        Some(found)
    }

    fn child(&self, module: &ModulePath, name: &str) -> Option<ModulePath> {
        let child: ModulePath = module.iter().cloned().chain([name.to_owned()]).collect();
        self.0.contains_key(&child).then_some(child)
    }

    /// Returns the definition of a name that a module defines itself or has from a `use`.
    fn look_up(&self, module: &ModulePath, name: &str, trail: &mut Trail) -> Option<Definition> {
        // Globs may lead back, also through themselves: the first name of their path may come from any of them.
        if trail.iter().any(|(from, looked_up)| from == module && looked_up == name) {
            return None;
        }
        trail.push((module.clone(), name.to_owned()));
        let found = self.resolve(module, name, trail);
        trail.pop();
        found
    }

    /// Returns the definition of a name that is on the trail.
    fn resolve(&self, module: &ModulePath, name: &str, trail: &mut Trail) -> Option<Definition> {
        let Module { uses, defined, .. } = self.0.get(module)?;
        if let Some(used) = uses.iter().find(|used| used.name.as_deref() == Some(name)) {
            return self.definition(module, &used.path, trail);
        }
        // A glob brings no name that the module defines.
        if defined.contains(name) {
            return Some(Definition::ItemOf(module.clone()));
        }
        uses.iter().filter(|used| used.name.is_none()).find_map(|glob| {
            let Definition::Module(target) = self.definition(module, &glob.path, trail)? else {
                return None;
            };
            self.look_up(&target, name, trail)
        })
    }
}

fn file_of(module: &ItemMod, file: &Path, children: &Path) -> PathBuf {
    let path = module.attrs.iter().find(|attribute| attribute.path().is_ident("path"));
    if let Some(syn::Meta::NameValue(pair)) = path.map(|attribute| &attribute.meta)
        && let syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) = &pair.value
    {
        return file.parent().unwrap().join(text.value());
    }
    let name = module.ident.to_string();
    let plain = children.join(format!("{name}.rs"));
    if plain.is_file() { plain } else { children.join(name).join("mod.rs") }
}

/// Reads what the items of one module name.
#[derive(Default)]
struct Reader<'ast> {
    modules: Vec<&'ast ItemMod>,
    uses: Vec<Use>,
    paths: BTreeSet<Vec<String>>,
    defined: BTreeSet<String>,
}

impl Reader<'_> {
    fn read_use(&mut self, tree: &UseTree, before: &[String], is_reexport: bool) {
        let with = |name: &syn::Ident| -> Vec<String> {
            before
                .iter()
                .cloned()
                .chain((name != "self" || before.is_empty()).then(|| name.to_string()))
                .collect()
        };
        match tree {
            UseTree::Path(path) => self.read_use(&path.tree, &with(&path.ident), is_reexport),
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.read_use(tree, before, is_reexport);
                }
            }
            UseTree::Glob(_) => self.uses.push(Use { path: before.to_vec(), name: None, is_reexport }),
            UseTree::Name(name) => {
                let path = with(&name.ident);
                let name = path.last().cloned();
                self.uses.push(Use { path, name, is_reexport });
            }
            UseTree::Rename(rename) => {
                let (path, name) = (with(&rename.ident), Some(rename.rename.to_string()));
                self.uses.push(Use { path, name, is_reexport });
            }
        }
    }

    /// Finds paths in the tokens of a macro.
    fn read_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(name) => {
                    if colons != 2 {
                        self.paths.insert(std::mem::take(&mut path));
                    }
                    path.push(name.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    self.read_tokens(group.stream());
                    self.paths.insert(std::mem::take(&mut path));
                    colons = 0;
                }
                _ => {
                    self.paths.insert(std::mem::take(&mut path));
                    colons = 0;
                }
            }
        }
        self.paths.insert(path);
        self.paths.remove(&Vec::new());
    }
}

impl<'ast> Visit<'ast> for Reader<'ast> {
    fn visit_item(&mut self, item: &'ast Item) {
        let (attributes, name): (&[Attribute], _) = match item {
            Item::Const(item) => (&item.attrs, Some(&item.ident)),
            Item::Enum(item) => (&item.attrs, Some(&item.ident)),
            Item::Fn(item) => (&item.attrs, Some(&item.sig.ident)),
            Item::Impl(item) => (&item.attrs, None),
            Item::Macro(item) => (&item.attrs, item.ident.as_ref()),
            Item::Mod(item) => (&item.attrs, None),
            Item::Static(item) => (&item.attrs, Some(&item.ident)),
            Item::Struct(item) => (&item.attrs, Some(&item.ident)),
            Item::Trait(item) => (&item.attrs, Some(&item.ident)),
            Item::Type(item) => (&item.attrs, Some(&item.ident)),
            Item::Use(item) => (&item.attrs, None),
            _ => (&[], None),
        };
        if !attributes.iter().any(is_for_tests) {
            self.defined.extend(name.map(ToString::to_string));
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        self.modules.push(module);
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.read_use(&item.tree, &[], !matches!(item.vis, Visibility::Inherited));
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.paths.insert(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        self.read_tokens(call.tokens.clone());
    }

    fn visit_visibility(&mut self, _: &'ast Visibility) {}

    fn visit_attribute(&mut self, _: &'ast Attribute) {}
}

fn is_for_tests(attribute: &Attribute) -> bool {
    let syn::Meta::List(list) = &attribute.meta else { return false };
    let condition = list.tokens.to_string();
    list.path.is_ident("cfg") && (condition == "test" || condition.starts_with("all (test"))
}

#[test]
fn a_circle_is_found_however_its_names_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, source: &str| std::fs::write(folder.path().join(name), source).unwrap();
    std::fs::create_dir(folder.path().join("far")).unwrap();
    file(
        "lib.rs",
        "mod far; mod near; mod used; pub use used::Used; #[cfg(test)] mod tests { use crate::near::A; }",
    );
    file("used.rs", "pub struct Used;");
    file("far/mod.rs", "mod deep; pub use deep::{Deep, other::*};");
    file("far/deep.rs", "pub struct Deep(crate::Used); pub mod other { pub const N: u8 = crate::near::N; }");
    file("near.rs", "pub const N: u8 = 1; pub struct A;");
    let root = folder.path().join("lib.rs");
    assert_eq!(cycles(&imports_of(&root)), []);

    let circle = ["far/deep.rs", "near.rs"].map(|name| folder.path().join(name));
    for source in [
        "use super::far::Deep;",
        "use crate::{far::{self as it}, used::Used}; fn f(_: it::Deep) {}",
        "fn f() { vec![crate::far::N]; }",
        "pub(crate) use crate::far::deep::other as again;",
        "use std::fmt::*; use super::*; use crate::far::*; fn f(_: Deep) {}",
    ] {
        file("near.rs", &format!("pub const N: u8 = 1; {source}"));
        assert_eq!(cycles(&imports_of(&root)), [BTreeSet::from(circle.clone())], "{source}");
    }
}
