//! The task that writes the calls that gathered: the first of some calls starts it, and it ends when it has written.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::Handle;

use super::calls::Scheduled;
use super::parts::Parts;

/// Time for which calls gather before they are written.
const GATHER: Duration = Duration::from_millis(250);
/// Upper bound on the time in which the workflows of calls without a valid token are looked up.
const LOOK_UP: Duration = Duration::from_secs(5);

/// Makes sure that what was logged is written soon. Outside a runtime, a later call or a reader does that.
pub(super) fn schedule(parts: &Arc<Parts>) {
    if let Some(scheduled) = Scheduled::take(&parts.calls)
        && let Ok(runtime) = Handle::try_current()
    {
        runtime.spawn(write_soon(Arc::downgrade(parts), scheduled));
    }
}

/// It holds the service only while it writes, so a dropped service closes its store at once.
async fn write_soon(parts: Weak<Parts>, scheduled: Scheduled) {
    tokio::time::sleep(GATHER).await;
    // A call that is logged from now on starts another task.
    drop(scheduled);
    let Some(parts) = parts.upgrade() else { return };
    if let Err(error) = parts.write_calls().await {
        let error = &error as &dyn std::error::Error;
        tracing::debug!(error, "calls are not in the call log yet; that is tried again with the next");
    }
    let _ = tokio::time::timeout(LOOK_UP, parts.calls.look_up(&*parts.executor)).await;
}
