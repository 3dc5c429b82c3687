//! The logs of runs, in parts of a few KiB each.

use webhook_core::id::RunId;
use webhook_core::run::RunState;
use webhook_core::store::{LOG_BYTES, StoreError};

use super::Writer;
use crate::engine::group::{Level, acknowledge};
use crate::error::store_error;
use crate::format::keys;
use crate::format::value::VALUE_BYTES;
use crate::reader::read::log_offset;
use crate::writer::operation::Reply;

/// How much more than what is kept may be on disk before the oldest parts are removed.
const SLACK: u64 = 16 * 1024;

/// Where a run's log begins on disk and where it ends.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LogEnd {
    start: u64,
    end: u64,
}

impl Writer {
    pub(super) fn append_log(&mut self, id: RunId, fence: u64, text: String, reply: Reply<()>) {
        let run = self.shared.runs().live.record(id);
        let Some(run) = run.filter(|run| run.state == RunState::Running && run.fence == fence) else {
            return drop(reply.send(Ok(())));
        };
        match self.append(id, &text) {
            Ok(()) => {
                self.shared.events.publish_log(&run, &text);
                self.change.group.when(Level::Flushed, acknowledge(reply, ()));
            }
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    fn append(&mut self, id: RunId, text: &str) -> Result<(), StoreError> {
        let mut log = match self.logs.get(&id) {
            Some(log) => *log,
            None => self.stored_log(id)?,
        };
        // Of a text that alone is too long, a little more is kept than will be shown, so that lines can be told.
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

    fn stored_log(&self, id: RunId) -> Result<LogEnd, StoreError> {
        self.shared.with_tree(|tree| {
            let mut parts = tree.scan_prefix(keys::log_of(id));
            let Some(first) = parts.next().transpose().map_err(store_error)? else {
                return Ok(LogEnd::default());
            };
            let last = parts.next_back().transpose().map_err(store_error)?;
            let (key, value) = last.unwrap_or_else(|| first.clone());
            Ok(LogEnd { start: log_offset(&first.0)?, end: log_offset(&key)? + value.len() as u64 })
        })
    }

    /// Removes the parts of which nothing is shown any more. Answers where the log begins then.
    fn drop_oldest(&mut self, id: RunId, log: LogEnd) -> Result<u64, StoreError> {
        self.catch_up()?;
        let gone = log.end.saturating_sub(LOG_BYTES as u64);
        let (mut start, mut old) = (log.start, Vec::new());
        self.shared.with_tree(|tree| {
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
