//! Panics of sled, which asserts its expectations of its files. They are caught and become errors.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    /// True if a panic of this thread would be caught here.
    static CATCHING: Cell<bool> = const { Cell::new(false) };
}

/// Keeps panics that this crate catches off standard error.
///
/// sled asserts its expectations of its files, so a damaged store makes it panic. That becomes an
/// [`OpenError`](crate::OpenError) or a [`StoreError`](webhook_core::store::StoreError), but by then the
/// process's panic hook has printed it.
/// This function wraps the current hook, which is still called for every other panic. Calls after the first
/// do nothing.
///
/// A library must not replace its host's hook by itself, so a program calls this if it wants a single clear
/// line.
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

/// Calls `work`, and returns the message if it panics.
pub(crate) fn catch<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let outer = CATCHING.replace(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    CATCHING.set(outer);
    outcome.map_err(|panic| panic_text(&*panic))
}

/// Returns the message of a caught panic.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    // An error is one line.
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
