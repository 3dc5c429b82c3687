//! The call log: in memory, and in the file `calls` beside the database, with kept contents in `call-contents`.
//!
//! Calls are news, and no promise depends on them. So they go neither through the journal nor to sled, and nothing waits for
//! a sync. The file survives the death of the process; after the loss of power, its end may be
//! missing.
//!
//! Each line of the file is a call as JSON. Lines are appended; once the file has doubled since it was last written as a
//! whole, it is rewritten with the calls that are kept. A line that cannot be read is left out: nothing depends on it.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use webhook_core::backend::{CallLog, EventLog, WebhookIndex};
use webhook_core::calls::{CallRecord, KeptContent, LoggedCall};
use webhook_core::id::{CallId, WebhookId};
use webhook_core::store::{CallQuery, Page};
use webhook_core::token::Sealed;

use crate::engine::regular;
use crate::engine::sled_folder::make_private;

const NAME: &str = "calls";
/// The file while it is written as a whole.
const NEW_NAME: &str = "calls-new";
/// The folder with a file for each kept content, named after its call.
const CONTENTS: &str = "call-contents";
/// Size of the file up to which it is not rewritten, in bytes.
const SMALL: u64 = 1 << 20;
/// Upper bound on the bytes that are read when the store is opened. The file is never larger, unless someone else wrote it.
const MOST_READ: u64 = 128 << 20;

/// The newest calls of each webhook, and their file.
///
/// The two locks are never held together, except that `log` may be taken while `file` is held. So a disk that hangs keeps no
/// reader waiting.
pub(crate) struct CallFile {
    folder: PathBuf,
    log: Mutex<CallLog>,
    file: Mutex<OpenFile>,
}

#[derive(Default)]
struct OpenFile {
    /// `None` until the first call is written, and after a failure: then the file is written as a whole.
    file: Option<File>,
    bytes: u64,
    /// Size at which the file is rewritten.
    bound: u64,
    /// Set while a failure is known, so that it is logged once.
    is_failing: bool,
    /// Set once the folder may belong to another process.
    is_closed: bool,
}

impl CallFile {
    /// Returns the empty log of a store in this folder.
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), log: Mutex::default(), file: Mutex::default() }
    }

    /// Reads the calls of known webhooks from the file, and finds their contents.
    pub(crate) fn load(&self, webhooks: &WebhookIndex) {
        for done in [self.read(webhooks), self.find_contents()] {
            match done {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::warn!(%error, "the call log of the store cannot be read; calls are missing in it");
                }
            }
        }
    }

    fn read(&self, webhooks: &WebhookIndex) -> io::Result<()> {
        let mut lines = BufReader::new(regular::open_to_read(&self.folder, NAME)?.take(MOST_READ));
        let (mut line, mut log) = (Vec::new(), self.log.lock());
        while lines.read_until(b'\n', &mut line)? > 0 {
            let call = serde_json::from_slice::<CallRecord>(&line).ok();
            if let Some(call) = call.filter(|call| webhooks.get(call.webhook_id).is_some()) {
                log.add(Arc::new(call));
            }
            line.clear();
        }
        Ok(())
    }

    /// Finds the kept contents, and removes those whose call is gone.
    fn find_contents(&self) -> io::Result<()> {
        let entries = fs::read_dir(self.folder.join(CONTENTS))?;
        let calls: HashMap<String, Arc<CallRecord>> =
            self.log.lock().iter().map(|call| (call.id.to_string(), call.clone())).collect();
        for entry in entries {
            let entry = entry?;
            let call = entry.file_name().to_str().and_then(|name| calls.get(name));
            match call.and_then(|call| Some((call, call.replayable_until?))) {
                Some((call, until)) => {
                    let bytes = usize::try_from(entry.metadata()?.len()).unwrap_or(usize::MAX);
                    self.log.lock().add_content(call, bytes, until);
                }
                None => fs::remove_file(entry.path())?,
            }
        }
        self.remove_dropped();
        Ok(())
    }

    /// Adds the calls of known webhooks. Returns those that [`write`](Self::write) must write.
    pub(crate) fn append(
        &self,
        calls: Vec<LoggedCall>,
        webhooks: &WebhookIndex,
        events: &EventLog,
    ) -> Vec<LoggedCall> {
        self.log.lock().append(calls, webhooks, events)
    }

    /// Lists calls, newest first.
    pub(crate) fn list(&self, query: &CallQuery) -> Page<Arc<CallRecord>, CallId> {
        self.log.lock().list(query)
    }

    pub(crate) fn has_any(&self, webhook: WebhookId) -> bool {
        !self.list(&CallQuery::new(webhook).limit(1)).items.is_empty()
    }

    /// Drops the calls of a webhook. [`rewrite`](Self::rewrite) removes them from the file.
    pub(crate) fn forget(&self, webhook: WebhookId) {
        self.log.lock().forget(webhook);
    }

    /// Returns a call, and whether its content is kept at this time.
    pub(crate) fn get(
        &self,
        webhook: WebhookId,
        call: CallId,
        now: SystemTime,
    ) -> Option<(Arc<CallRecord>, bool)> {
        let log = self.log.lock();
        Some((log.get(webhook, call)?.clone(), log.has_content(call, now)))
    }

    /// Reads the content of a call. One that cannot be read counts as gone.
    pub(crate) fn content(&self, call: &CallRecord) -> Option<Arc<KeptContent>> {
        let mut file = regular::open_to_read(&self.folder.join(CONTENTS), &call.id.to_string()).ok()?;
        let mut sealed = Vec::new();
        file.read_to_end(&mut sealed).ok()?;
        Some(Arc::new(KeptContent::new(Sealed::from_bytes(sealed), call.replayable_until?)))
    }

    /// Removes the expired contents.
    pub(crate) fn expire_contents(&self, now: SystemTime) {
        self.log.lock().expire_contents(now);
        self.remove_dropped();
    }

    /// Removes the files of contents that the log dropped. One that stays is removed by the next opening.
    fn remove_dropped(&self) {
        let dropped = self.log.lock().take_dropped();
        for call in dropped {
            let _ = fs::remove_file(self.folder.join(CONTENTS).join(call.to_string()));
        }
    }

    fn write_content(&self, call: CallId, content: &KeptContent) -> io::Result<()> {
        let folder = self.folder.join(CONTENTS);
        make_private(&folder)?;
        let mut options = File::options();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        regular::open(&folder, &call.to_string(), options)?.write_all(content.sealed.as_bytes())
    }

    /// Writes calls that were added, and removes the contents for which there is no room any more.
    pub(crate) fn write(&self, added: &[LoggedCall]) {
        let mut open = self.file.lock();
        if open.is_closed {
            return;
        }
        for call in added {
            if let Some(content) = &call.content {
                open.note(self.write_content(call.record.id, content));
            }
        }
        self.remove_dropped();
        let lines = lines(added.iter().map(|call| &call.record));
        let grown = open.bytes + lines.len() as u64;
        let fits = grown <= open.bound;
        let written = match &mut open.file {
            Some(file) if fits => file.write_all(&lines),
            _ => return self.write_whole(&mut open),
        };
        open.bytes = grown;
        open.note(written);
    }

    /// Rewrites the file without the calls that were dropped.
    pub(crate) fn rewrite(&self) {
        self.remove_dropped();
        self.write_whole(&mut self.file.lock());
    }

    /// Leaves the file as it is, since the disk is full. The next call writes it as a whole.
    pub(crate) fn skip(&self) {
        self.file.lock().file = None;
    }

    /// Writes no more, and waits until a write in progress has ended.
    pub(crate) fn close(&self) {
        self.file.lock().is_closed = true;
    }

    fn write_whole(&self, open: &mut OpenFile) {
        if open.is_closed {
            return;
        }
        let kept: Vec<Arc<CallRecord>> = self.log.lock().iter().cloned().collect();
        let lines = lines(kept.iter());
        let written = self.replace(&lines).map(|file| {
            open.file = Some(file);
            open.bytes = lines.len() as u64;
            open.bound = SMALL.max(2 * open.bytes);
        });
        open.note(written);
    }

    fn replace(&self, content: &[u8]) -> io::Result<File> {
        let mut options = File::options();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = regular::open(&self.folder, NEW_NAME, options)?;
        file.write_all(content)?;
        fs::rename(self.folder.join(NEW_NAME), self.folder.join(NAME))?;
        Ok(file)
    }
}

impl OpenFile {
    fn note(&mut self, written: io::Result<()>) {
        match written {
            Ok(()) => self.is_failing = false,
            Err(error) => {
                self.file = None;
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::warn!(%error, "calls cannot be written to the file {NAME} of the store; they are kept in memory");
                }
            }
        }
    }
}

fn lines<'a>(calls: impl ExactSizeIterator<Item = &'a Arc<CallRecord>>) -> Vec<u8> {
    let mut lines = Vec::with_capacity(calls.len() * 512);
    for call in calls {
        // A record has text for keys, and writing to memory never fails.
        let _ = serde_json::to_writer(&mut lines, &**call);
        lines.push(b'\n');
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use webhook_core::calls::{CallFacts, CallOutcome};
    use webhook_core::token::Token;
    use webhook_core::webhook::{Webhook, WebhookSettings};

    use super::*;

    fn known() -> (WebhookIndex, WebhookId) {
        let id = WebhookId::generate(UNIX_EPOCH);
        let (workflow, settings) = ("report/a".parse().unwrap(), WebhookSettings::default());
        let mut webhooks = WebhookIndex::default();
        webhooks.put(Webhook::new(id, workflow, settings, &Token::generate(), None, UNIX_EPOCH));
        (webhooks, id)
    }

    fn log(file: &CallFile, webhooks: &WebhookIndex, webhook: WebhookId, detail: &str) {
        let mut facts = CallFacts::new("POST", 202, CallOutcome::Accepted);
        facts.detail = Some(detail.into());
        let call = LoggedCall::new(Arc::new(CallRecord::new(webhook, &facts, UNIX_EPOCH)));
        file.write(&file.append(vec![call], webhooks, &EventLog::new()));
    }

    fn details(file: &CallFile, webhook: WebhookId) -> Vec<String> {
        let calls = file.list(&CallQuery::new(webhook).limit(1_000)).items;
        calls.iter().map(|call| call.detail.clone().unwrap()).collect()
    }

    fn opened(folder: &Path, webhooks: &WebhookIndex) -> CallFile {
        let file = CallFile::new(folder);
        file.load(webhooks);
        file
    }

    #[test]
    fn the_file_is_bounded_and_has_the_newest_calls() {
        let folder = tempfile::tempdir().unwrap();
        let (webhooks, webhook) = known();
        let file = opened(folder.path(), &webhooks);
        let detail = "x".repeat(400);
        for number in 0..9_000 {
            log(&file, &webhooks, webhook, &format!("{number} {detail}"));
        }
        let bytes = fs::metadata(folder.path().join(NAME)).unwrap().len();
        assert!(bytes <= SMALL, "{bytes}");
        let again = opened(folder.path(), &webhooks);
        assert_eq!(details(&again, webhook), details(&file, webhook));
        assert!(details(&again, webhook)[0].starts_with("8999 "));
    }

    #[test]
    fn lines_that_are_cut_or_flipped_are_left_out_and_calls_are_written_behind_them() {
        let folder = tempfile::tempdir().unwrap();
        let (webhooks, webhook) = known();
        let file = opened(folder.path(), &webhooks);
        for number in 0..4 {
            log(&file, &webhooks, webhook, &number.to_string());
        }
        let path = folder.path().join(NAME);
        let mut bytes = fs::read(&path).unwrap();
        let second = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 2;
        bytes[second] ^= 0x80;
        bytes.truncate(bytes.len() - 9);
        fs::write(&path, &bytes).unwrap();
        let file = opened(folder.path(), &webhooks);
        assert_eq!(details(&file, webhook), ["2", "0"]);
        log(&file, &webhooks, webhook, "4");
        assert_eq!(details(&opened(folder.path(), &webhooks), webhook), ["4", "2", "0"]);
    }

    #[test]
    fn calls_of_a_webhook_that_is_gone_leave_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let (mut webhooks, webhook) = known();
        let file = opened(folder.path(), &webhooks);
        log(&file, &webhooks, webhook, "gone");
        webhooks.remove(webhook);
        assert_eq!(details(&opened(folder.path(), &webhooks), webhook), Vec::<String>::new());
        file.forget(webhook);
        file.rewrite();
        assert_eq!(fs::read(folder.path().join(NAME)).unwrap(), b"");
    }

    #[test]
    fn a_file_that_cannot_be_written_costs_no_call_and_is_whole_once_it_can() {
        let folder = tempfile::tempdir().unwrap();
        let (webhooks, webhook) = known();
        let file = opened(folder.path(), &webhooks);
        let hindrance = folder.path().join(NEW_NAME);
        fs::create_dir(&hindrance).unwrap();
        log(&file, &webhooks, webhook, "0");
        assert_eq!(details(&file, webhook), ["0"]);
        fs::remove_dir(&hindrance).unwrap();
        log(&file, &webhooks, webhook, "1");
        file.skip();
        log(&file, &webhooks, webhook, "2");
        assert_eq!(details(&opened(folder.path(), &webhooks), webhook), ["2", "1", "0"]);
    }

    #[test]
    fn contents_are_found_again_and_go_with_their_calls_however_those_went() {
        let folder = tempfile::tempdir().unwrap();
        let (webhooks, webhook) = known();
        let contents = || fs::read_dir(folder.path().join(CONTENTS)).map_or(0, Iterator::count);
        let until = UNIX_EPOCH + std::time::Duration::from_secs(9);
        let log_kept = |file: &CallFile| {
            let content = Arc::new(KeptContent::new(Sealed::from_bytes(b"sealed".to_vec()), until));
            let mut facts = CallFacts::new("POST", 202, CallOutcome::Accepted);
            facts.content = Some(content.clone());
            let call = LoggedCall::new(Arc::new(CallRecord::new(webhook, &facts, UNIX_EPOCH)));
            let call = call.with_content(Some(content));
            file.write(&file.append(vec![call.clone()], &webhooks, &EventLog::new()));
            call
        };
        let file = opened(folder.path(), &webhooks);
        let (first, second) = (log_kept(&file), log_kept(&file));
        let file = opened(folder.path(), &webhooks);
        for call in [&first, &second] {
            let (record, has_content) = file.get(webhook, call.record.id, UNIX_EPOCH).unwrap();
            assert!(has_content && file.content(&record) == call.content);
        }
        file.expire_contents(until);
        assert_eq!((contents(), count_of(&file, webhook)), (0, 2));
        log_kept(&file);
        file.forget(webhook);
        file.rewrite();
        assert_eq!(contents(), 0);
        log_kept(&file);
        fs::remove_file(folder.path().join(NAME)).unwrap();
        opened(folder.path(), &webhooks);
        assert_eq!(contents(), 0, "nobody knows its call any more");
    }

    fn count_of(file: &CallFile, webhook: WebhookId) -> usize {
        file.list(&CallQuery::new(webhook)).items.len()
    }
}
