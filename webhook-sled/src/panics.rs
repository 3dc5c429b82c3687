//! Panics of sled, which asserts what it expects of its files. They are caught and become errors.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    /// Whether a panic of this thread would be caught here.
    static CATCHING: Cell<bool> = const { Cell::new(false) };
}

/// Keeps the panics that this crate catches, and answers with an error instead, off standard error.
///
/// sled asserts what it expects of its files, so a damaged store makes it panic. That becomes an
/// [`OpenError`](crate::OpenError) or a [`StoreError`](webhook_core::store::StoreError), but the process's panic hook has printed
/// it by then. This wraps the hook that is there now; it is still called for every other panic. A library
/// must not replace the hook of its host by itself, so a program calls this where it wants one clear line. Calls after
/// the first do nothing.
pub fn quiet_caught_panics() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let hook = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !CATCHING.get() {
                hook(panic);
            }
        }));
    });
}

/// Does something that may panic. Answers what a panic said.
pub(crate) fn catch<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let outer = CATCHING.replace(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    CATCHING.set(outer);
    outcome.map_err(|panic| panic_text(&*panic))
}

/// What a caught panic said.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    // An error is one line.
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
