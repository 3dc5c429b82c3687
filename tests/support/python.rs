//! The Python of tests that need one.

use std::path::{Path, PathBuf};

/// The interpreter that the packages of tests/requirements.txt are installed for: `WEBHOOK_TEST_PYTHON`, or the one in
/// target/python. Without one a test is skipped, but not where `CI` is `true`.
pub(crate) fn python(test: &str) -> Option<PathBuf> {
    let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/python/bin/python");
    let program = std::env::var_os("WEBHOOK_TEST_PYTHON").map_or(made, PathBuf::from);
    if program.exists() {
        return Some(program);
    }
    let how = "python3 -m venv target/python && target/python/bin/pip install -r tests/requirements.txt";
    let message = format!("{test}: there is no {}; make it with: {how}", program.display());
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{message}");
    eprintln!("SKIPPED {message}");
    None
}
