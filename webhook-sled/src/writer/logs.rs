//! The logs of runs, in parts of a few KiB each.

use webhook_core::id::RunId;
use webhook_core::run::RunState;
use webhook_core::store::{LOG_BYTES, StoreError};

use crate::error::store_error;
use crate::format::keys::{self, log_offset};
use crate::format::value::VALUE_BYTES;
use crate::writer::memory::LogExtent;
use crate::writer::reply::{Decided, Decision};
use crate::writer::state::Writer;

/// Stored bytes beyond those that are shown, before the oldest parts are removed.
const SLACK: u64 = 16 * 1024;

impl Writer {
    pub(crate) fn append_log(&mut self, id: RunId, fence: u64, text: &str) -> Decided<()> {
        let run = self.parts.runs().live.record(id);
        let Some(run) = run.filter(|run| run.state() == RunState::Running && run.fence() == fence) else {
            return Decision::now(());
        };
        self.append(id, text)?;
        self.parts.announcements.events.publish_log(&run, text);
        Decision::flushed(())
    }

    fn append(&mut self, id: RunId, text: &str) -> Result<(), StoreError> {
        let mut log = match self.logs.get(&id) {
            Some(log) => *log,
            None => self.stored_log(id)?,
        };
        // Of a text that alone is too long, a little more is stored than is shown, so the first line can be cut whole.
        let kept = text.len().saturating_sub(LOG_BYTES + SLACK as usize / 2);
        let mut rest = &text[text.ceil_char_boundary(kept)..];
        let mut at = log.end + (text.len() - rest.len()) as u64;
        while !rest.is_empty() {
            let (part, after) = rest.split_at(rest.floor_char_boundary(VALUE_BYTES));
            self.change.insert_fresh(keys::log(id, at), part.as_bytes());
            at += part.len() as u64;
            rest = after;
        }
        log.end = at;
        if log.end - log.start > LOG_BYTES as u64 + SLACK {
            log.start = self.drop_oldest(id, log)?;
        }
        self.logs.insert(id, log);
        Ok(())
    }

    fn stored_log(&self, id: RunId) -> Result<LogExtent, StoreError> {
        self.parts.database.read(|tree| {
            let mut parts = tree.scan_prefix(keys::log_of(id));
            let Some(first) = parts.next().transpose().map_err(store_error)? else {
                return Ok(LogExtent::default());
            };
            let last = parts.next_back().transpose().map_err(store_error)?;
            let (key, value) = last.unwrap_or_else(|| first.clone());
            Ok(LogExtent { start: log_offset(&first.0)?, end: log_offset(&key)? + value.len() as u64 })
        })
    }

    /// Removes the parts that are no longer shown. Returns the new start of the log.
    fn drop_oldest(&mut self, id: RunId, log: LogExtent) -> Result<u64, StoreError> {
        self.catch_up()?;
        let gone = log.end.saturating_sub(LOG_BYTES as u64);
        let (mut start, mut old) = (log.start, Vec::new());
        self.parts.database.read(|tree| {
            for entry in tree.range(keys::log(id, log.start)..keys::log(id, gone)) {
                let (key, value) = entry.map_err(store_error)?;
                let end = log_offset(&key)? + value.len() as u64;
                if end >= gone {
                    break;
                }
                start = end;
                old.push(key);
            }
            Ok(())
        })?;
        for key in old {
            self.change.remove(key);
        }
        Ok(start)
    }
}
