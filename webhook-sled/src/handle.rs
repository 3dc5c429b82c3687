//! An open store: its parts, and the threads that work on them.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::SystemTime;

use parking_lot::Mutex;
use tokio::time::Instant;
use webhook_core::store::StoreError;

use crate::check::scrub::Scrubber;
use crate::engine::call_file::CallFile;
use crate::engine::capacity::Capacity;
use crate::engine::checkpointer::{Checkpointed, Checkpointer};
use crate::engine::clock::StoreClock;
use crate::engine::condition::Condition;
use crate::engine::database::Database;
use crate::engine::disk::Disk;
use crate::engine::flusher::{Flushed, Flusher};
use crate::engine::folder::Folder;
use crate::engine::parts::Parts;
use crate::engine::sled_files::SledFiles;
use crate::error::OpenError;
use crate::options::SledOptions;
use crate::reader::read;
use crate::reader::restore::{EarlierMemory, RestoredState, restore};
use crate::tree::damage::Damage;
use crate::writer::operation::{Answer, Operation, deciding};
use crate::writer::queue::Queue;
use crate::writer::state::Writer;
use crate::writer::work::WriterThread;

/// An open store. Dropping it closes it.
pub(crate) struct Handle {
    pub(crate) options: SledOptions,
    pub(crate) parts: Arc<Parts>,
    queue: Arc<Queue<Operation>>,
    /// `None` once the store is closed.
    threads: Mutex<Option<Threads>>,
}

struct Threads {
    writer: JoinHandle<()>,
    scrubber: Scrubber,
}

impl Handle {
    /// Opens the folder, and starts the threads.
    pub(crate) fn open(path: &Path, options: SledOptions, disk: Arc<dyn Disk>) -> Result<Self, OpenError> {
        let damage = Arc::new(Damage::new());
        let (folder, opened, number) = Folder::open(path, options.cache_bytes, disk.clone(), &damage)?;
        let (now, instant) = (SystemTime::now(), Instant::now());
        let restored = restore(&folder, &opened, now, instant, &EarlierMemory::default(), &damage)?;
        let clock = StoreClock::start(folder.read(&opened, read::saved_clock)?, now);
        let io = OpenError::io(path);
        let files = SledFiles::open(&folder.sled()).map_err(&io)?;
        let capacity = Capacity {
            open_files: folder.open_files(&files).map_err(&io)?,
            disk: disk.clone(),
            folder: folder.sled(),
            reserve_bytes: options.reserve_bytes,
            quota_bytes: options.quota_bytes,
            last_look: Mutex::default(),
        };
        let queue = Arc::new(Queue::new());
        let condition = {
            let queue = queue.clone();
            Condition::new(move || queue.nudge())
        };
        let database = Database::new(opened.into_inner(), files, disk, options.durability, damage);
        let parts = Arc::new(Parts::new(database, condition, capacity, CallFile::new(path), clock));
        let writer = start_writer(&parts, &queue, folder, restored, number).map_err(&io)?;
        parts.condition.check().map_err(|error| OpenError::from_store(path, error))?;
        parts.calls.load(&parts.webhooks());
        let writer = Builder::new().name("webhook-sled-writer".to_owned()).spawn(move || writer.run());
        let writer = writer.map_err(&io)?;
        let sweeping = queue.clone();
        let sweep = move |leftovers| {
            // No caller waits for the answer, and a closed store removes nothing.
            let (operation, _) = deciding(|writer: &mut Writer| writer.prune(leftovers, Vec::new()));
            let _ = sweeping.push(operation);
        };
        let scrubber = Scrubber::start(parts.clone(), sweep).map_err(|error| {
            queue.close();
            io(error)
        })?;
        Ok(Self { options, parts, queue, threads: Mutex::new(Some(Threads { writer, scrubber })) })
    }

    pub(crate) fn check_open(&self) -> Result<(), StoreError> {
        if self.queue.is_closed() { Err(closed()) } else { Ok(()) }
    }

    /// Closes the folder, and waits for the work in hand unless the disk hangs.
    pub(crate) fn close(&self) {
        self.queue.close();
        // A second caller waits here until the first has closed it.
        let mut threads = self.threads.lock();
        let Some(Threads { writer, scrubber }) = threads.take() else { return };
        if self.parts.database.watch().hangs() {
            // The threads end when the disk does what it was asked.
            std::mem::forget(scrubber);
            return;
        }
        drop(scrubber);
        self.parts.calls.close();
        // It catches panics, so there is nothing to learn from how it ended.
        let _ = writer.join();
    }

    /// Gives an operation to the writer, and waits for its result.
    pub(crate) async fn submit<T>(&self, operation: Operation, answer: Answer<T>) -> Result<T, StoreError> {
        self.parts.condition.check()?;
        self.parts.database.watch().check()?;
        if self.queue.push(operation).is_err() {
            return Err(closed());
        }
        match self.parts.unless_hung(answer).await? {
            Ok(result) => result,
            // The writer panicked, or ended.
            Err(_) => {
                self.parts.condition.check()?;
                Err(closed())
            }
        }
    }
}

fn closed() -> StoreError {
    StoreError::unavailable("it is closed")
}

/// Starts the checkpointer, and makes the writer of a database that was just opened.
fn start_writer(
    parts: &Arc<Parts>,
    queue: &Arc<Queue<Operation>>,
    folder: Folder,
    restored: RestoredState,
    number: u64,
) -> io::Result<WriterThread> {
    let folder = Arc::new(folder);
    let flusher = Flusher::new(Flushed {
        folder: folder.clone(),
        database: parts.database.clone(),
        condition: parts.condition.clone(),
        checkpoints: parts.checkpoints.clone(),
        runs: parts.runs.clone(),
        announcements: parts.announcements.clone(),
    });
    let checkpointer = Checkpointer::start(Checkpointed {
        queue: parts.checkpoints.clone(),
        database: parts.database.clone(),
        folder: folder.clone(),
        condition: parts.condition.clone(),
        runs: parts.runs.clone(),
        ended_logs: parts.ended_logs.clone(),
    })?;
    let writer = Writer::new(parts.clone(), flusher, number);
    let mut thread = WriterThread { writer, queue: queue.clone(), folder, checkpointer };
    thread.adopt(restored);
    Ok(thread)
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}
