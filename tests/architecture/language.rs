//! Features of the language that are newer than `rust-version` allows, which clippy's `incompatible_msrv` does not see.

use std::path::PathBuf;

use syn::visit::{self, Visit};
use syn::{Expr, PatGuard};

use super::{code_folders, rust_files};

/// Number of guards that bind (`if let` in an arm of `match`, Rust 1.95).
#[derive(Default)]
struct BindingGuards(usize);

impl<'ast> Visit<'ast> for BindingGuards {
    fn visit_pat_guard(&mut self, guarded: &'ast PatGuard) {
        let mut bindings = Bindings(false);
        bindings.visit_expr(&guarded.guard);
        self.0 += usize::from(bindings.0);
        visit::visit_pat_guard(self, guarded);
    }
}

/// True once an expression with a `let` was visited.
struct Bindings(bool);

impl<'ast> Visit<'ast> for Bindings {
    fn visit_expr(&mut self, expression: &'ast Expr) {
        self.0 |= matches!(expression, Expr::Let(_));
        visit::visit_expr(self, expression);
    }
}

fn binding_guards(source: &str) -> usize {
    let mut guards = BindingGuards::default();
    guards.visit_file(&syn::parse_file(source).unwrap());
    guards.0
}

#[test]
fn no_guard_of_a_match_binds() {
    let mut found = Vec::new();
    for file in code_folders().iter().flat_map(|folder| rust_files(folder)) {
        if binding_guards(&std::fs::read_to_string(&file).unwrap()) > 0 {
            found.push(file);
        }
    }
    assert_eq!(found, Vec::<PathBuf>::new(), "such guards need Rust 1.95");
}

#[test]
fn a_guard_that_binds_is_found() {
    let source = "fn f(a: u8) { match a { 0 if a > b => {} c if let Some(d) = g(c) => h(d), _ => {} } }";
    assert_eq!(binding_guards(source), 1);
}
