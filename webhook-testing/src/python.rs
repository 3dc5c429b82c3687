//! Python for those tests of this workspace that need one.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Commands that create an interpreter with all modules of all tests.
const MADE_WITH: &str =
    "python3 -m venv target/python && target/python/bin/pip install -r tests/requirements.txt";

/// Returns an interpreter with these modules: `WEBHOOK_TEST_PYTHON`, or the one in target/python of the
/// workspace.
///
/// Without one, `test` is skipped with a message, or fails if `CI` is `true`.
#[allow(clippy::print_stderr, reason = "a test says why it is skipped")]
#[must_use]
pub fn python(test: &str, modules: &[&str]) -> Option<PathBuf> {
    let program = std::env::var_os("WEBHOOK_TEST_PYTHON").map_or_else(made, PathBuf::from);
    let Err(lack) = check(&program, modules) else { return Some(program) };
    let message = format!("{test}: {} {lack}; make it with: {MADE_WITH}", program.display());
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{message}");
    eprintln!("SKIPPED {message}");
    None
}

/// Returns the path of the interpreter in target/python. The package of this test is the workspace's root or
/// a folder of it.
fn made() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = package.ancestors().find(|folder| folder.join("tests/requirements.txt").exists());
    root.unwrap_or(package).join("target/python/bin/python")
}

/// Checks for the modules without importing them, which could take seconds.
fn check(program: &Path, modules: &[&str]) -> Result<(), String> {
    let script = "import importlib.util as i, sys; print(*[m for m in sys.argv[1:] if not i.find_spec(m)])";
    let probe = Command::new(program).args(["-c", script]).args(modules).output();
    match probe {
        Err(error) => Err(format!("cannot be run ({error})")),
        Ok(probe) if !probe.status.success() => Err("does not run as Python".to_owned()),
        Ok(probe) => match String::from_utf8_lossy(&probe.stdout).trim() {
            "" => Ok(()),
            missing => Err(format!("lacks {missing}")),
        },
    }
}
