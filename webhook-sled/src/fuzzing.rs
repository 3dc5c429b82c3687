//! Entry points for the fuzz targets of this workspace, which check the decoders of data on disk. Not part of
//! the public interface, and different in every version.
//!
//! Each function takes any bytes, and panics when a promise is broken.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;
use serde::de::DeserializeOwned;
use webhook_core::clock::to_milliseconds;
use webhook_core::id::{RunId, WebhookId};
use webhook_core::notifier::Delivery;
use webhook_core::run::{Caller, Run, RunParameters, RunState};
use webhook_core::store::StoreError;
use webhook_core::webhook::Webhook;

use crate::engine::change::Write;
use crate::engine::journal::BEGINNING;
use crate::engine::journal::files::JournalFiles;
use crate::engine::journal::record::{self as journal_record, RecordHeader};
use crate::engine::superblock::{self, SECTOR, SuperblockContent, SuperblockFacts};
use crate::format::block::{self, BlockBuilder, encode_recorded};
use crate::format::identity::{Identity, StoreId};
use crate::format::keys;
use crate::format::run::{self, RecordedRun, decode_run};
use crate::format::value::{
    ClaimRecord, EncodedRecord, KeyRecord, SavedClock, VALUE_BYTES, decode, decode_claims, decode_number,
    decode_pending, encode, encode_claims, encode_number, encode_pending, tail_count,
};
use crate::tree::sums::StoredSums;

/// Decodes a value under a key of this kind. A decoded value is encoded and decoded again, with the same
/// result.
pub fn check_value(kind: u8, bytes: &[u8]) {
    let _ = tail_count(bytes);
    match kind {
        keys::LIVE | keys::ENDED => {
            check_runs(bytes);
            check_json::<Run>(bytes);
        }
        keys::CLAIMS => check_claims(bytes),
        keys::WEBHOOK => check_json::<Webhook>(bytes),
        keys::DELIVERY => check_json::<Delivery>(bytes),
        keys::LAST_USE | keys::KEPT | keys::BY_WEBHOOK | b'n' | b'a' => {
            check_fixed(bytes, decode_number, |number| encode_number(*number));
        }
        keys::IDEMPOTENCY => check_fixed(bytes, KeyRecord::decode, KeyRecord::encode),
        keys::PENDING => check_fixed(bytes, decode_pending, |(run, due)| encode_pending(*run, Some(*due))),
        b'j' => check_fixed(bytes, SavedClock::decode, |clock| clock.encode()),
        b's' => check_fixed(bytes, Identity::decode, Identity::encode),
        b'b' => check_fixed(bytes, StoredSums::decode, StoredSums::encode),
        _ => check_key(bytes),
    }
}

/// Checks a record of which every byte matters.
fn check_fixed<T, E: AsRef<[u8]>>(
    bytes: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, StoreError>,
    encode: impl Fn(&T) -> E,
) {
    if let Ok(record) = decode(bytes) {
        assert_eq!(encode(&record).as_ref(), bytes, "a record is written as it was read");
    }
}

fn check_json<T>(bytes: &[u8])
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let Ok(record) = decode::<T>(bytes) else { return };
    let encoded = joined(encode(&record).expect("what was read can be written"));
    assert_eq!(decode::<T>(&encoded).expect("what was written can be read"), record);
}

/// The parts of a value together.
fn joined(encoded: EncodedRecord) -> Vec<u8> {
    assert_eq!(usize::from(tail_count(&encoded.head).expect("it has a header")), encoded.tails.len());
    assert!(encoded.tails.iter().chain([&encoded.head]).all(|part| part.len() <= VALUE_BYTES));
    [encoded.head, encoded.tails.concat()].concat()
}

fn check_runs(bytes: &[u8]) {
    let Ok(records) = block::records(bytes) else { return };
    let ids: Vec<RunId> =
        records.iter().map(|record| run::id_of(record).expect("a record has an id")).collect();
    assert_eq!(block::ids(bytes).expect("ids are read with less than records"), ids);
    let mut together = BlockBuilder::new(256);
    for record in &records {
        let Ok(recorded) = decode_run(record) else { return };
        check_run(record, &recorded);
        together.push(record).expect("a record that is read can be put into a value");
    }
    let together = together.into_bytes();
    assert_eq!(block::records(&together).expect("a value that was made can be read"), records);
}

fn check_run(record: &[u8], recorded: &RecordedRun) {
    let RecordedRun { run, apart } = recorded;
    let (group_key, end) = run::group_key(record).expect("its beginning is read with less than a run");
    assert_eq!(group_key.webhook, run.webhook_id());
    assert_eq!(&group_key.workflow, run.workflow());
    assert_eq!(group_key.state, run.state());
    let ended = to_milliseconds(run.finished_at().unwrap_or(run.queued_at()));
    assert_eq!(end, u64::try_from(ended).unwrap_or(0), "the index has it where the run says");
    let encoded = encode_recorded(run, *apart).expect("what was read can be written");
    let records = block::records(&joined(encoded)).expect("what was written can be read");
    let [again] = &records[..] else { panic!("one run was written") };
    assert_eq!(&decode_run(again).expect("what was written can be read"), recorded);
}

fn check_claims(bytes: &[u8]) {
    let Ok(claims) = decode_claims(bytes) else { return };
    let zero = WebhookId::from_bytes([0; 16]);
    let queued = |run: RunId| {
        let workflow = "report/a".parse().expect("the workflow is valid");
        let (parameters, caller) = (RunParameters::default(), Caller::default());
        Run::new(run, workflow, zero, parameters, 1, caller, SystemTime::UNIX_EPOCH)
    };
    // A claim of the fence 0 changes nothing.
    let claimed = |claim: &ClaimRecord| {
        let mut parts = queued(claim.run).into_parts();
        claim.apply(&mut parts);
        Run::from_parts(parts).map(Arc::new)
    };
    let Ok(runs) = claims.iter().map(claimed).collect::<Result<Vec<_>, _>>() else { return };
    let again = decode_claims(&encode_claims(&runs)).expect("what was written can be read");
    assert_eq!(again.len(), claims.len());
    for ((again, claim), run) in again.iter().zip(&claims).zip(&runs) {
        assert!(run.state() == RunState::Queued || again == claim, "a claim is written as it was read");
    }
}

fn check_key(key: &[u8]) {
    if let Some((expires, place)) = keys::parse_expiry(key) {
        assert_eq!(keys::expiry(expires, &place)[1..], key[1..]);
    }
    if let Some(id) = keys::first_id(key) {
        assert_eq!(id, key[1..17]);
    }
    if let Some(id) = keys::last_id(key) {
        let run = RunId::from_bytes(id);
        let (first, last) = keys::keys_of_bucket(keys::ENDED, keys::time_bucket(run));
        let own = keys::by_id(keys::ENDED, &id);
        assert!(first <= own && own <= last, "a run lies within its own bucket");
        assert!(keys::first_of_bucket(keys::time_bucket(run)) <= run && run <= keys::last_of_bucket(id));
    }
}

/// Parses a superblock, and a damaged one. The first bytes are its content, the others the damage.
pub fn check_superblock(bytes: &[u8]) {
    if let Ok(SuperblockContent::Ready(facts)) = superblock::parse(bytes) {
        assert_eq!(superblock::parse(&superblock::whole(&facts)).ok(), Some(SuperblockContent::Ready(facts)));
    }
    let Some((&[state, epoch, acknowledged, sector], damage)) = bytes.split_first_chunk() else { return };
    let identity = Identity { store: StoreId([state; 16]), epoch: u64::MAX >> (epoch % 64) };
    let acknowledged = u64::MAX >> (acknowledged % 64);
    let facts = SuperblockFacts { identity, acknowledged, is_closed: state % 2 == 1 };
    let whole = superblock::whole(&facts);
    assert_eq!(superblock::parse(&whole).ok(), Some(SuperblockContent::Ready(facts)));

    // One of its sectors holds any bytes, except those with the checksum of a superblock.
    let sector = usize::from(sector) % 3;
    let mut replaced = whole.clone();
    let start = sector * SECTOR;
    for (place, byte) in replaced[start..start + SECTOR].iter_mut().zip(damage) {
        *place = *byte;
    }
    let mut alone = vec![b' '; 3 * SECTOR];
    alone[2 * SECTOR..].copy_from_slice(&replaced[start..start + SECTOR]);
    let is_forged =
        matches!(superblock::parse(&alone), Ok(SuperblockContent::Ready(found)) if found != facts);
    if !is_forged {
        assert_eq!(
            superblock::parse(&replaced).ok(),
            Some(SuperblockContent::Ready(facts)),
            "one sector hides nothing"
        );
    }

    // Bytes are changed anywhere, and the end is cut off.
    let mut changed = whole.clone();
    for change in damage.as_chunks::<3>().0.iter().take(64) {
        let [high, low, bits] = *change;
        let at = usize::from(u16::from_be_bytes([high, low])) % changed.len();
        changed[at] ^= bits;
        if bits == 0 {
            changed.truncate(at.max(1));
        }
    }
    // A superblock of zeroes was never written.
    if let (Ok(content), true) = (superblock::parse(&changed), changed.iter().any(|byte| *byte != 0)) {
        assert_eq!(content, SuperblockContent::Ready(facts), "a damaged superblock says the same or nothing");
    }
}

/// Decodes the files of a journal, which may hold any bytes.
pub fn check_journal_bytes(bytes: &[u8]) {
    if let Some((mark, writes, length)) = journal_record::decode(bytes) {
        assert!(length <= bytes.len());
        let again = journal_record::encode(mark, &writes);
        let length = again.len();
        assert_eq!(journal_record::decode(&again), Some((mark, writes, length)));
    }
    let numbers: Vec<u64> =
        journal_record::decode_earlier(bytes).iter().map(|change| change.number).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "numbers follow one another");
    if let Some(writes) = journal_record::decode_writes(bytes) {
        let mark = RecordHeader { identity: IDENTITY, number: 1, synced: 0 };
        let again = journal_record::encode(mark, &writes);
        assert_eq!(journal_record::decode(&again).map(|(_, writes, _)| writes), Some(writes));
    }
    let middle = bytes.len() / 2;
    let found = JournalFiles::of([bytes[..middle].to_vec(), bytes[middle..].to_vec()]);
    let _ = found.check_files(IDENTITY, Some(IDENTITY));
    let _ = found.pending(IDENTITY, 0, 0);
    let _ = found.pending_of_earlier_format(0, 0);
}

const IDENTITY: Identity = Identity { store: StoreId([7; 16]), epoch: 2 };

/// Damage to a journal.
#[derive(Debug, Clone, Copy)]
pub struct JournalDamage {
    /// Number of the file; even and odd are the two files.
    pub file: u8,
    /// Offset in the file.
    pub at: u16,
    /// The damage itself.
    pub act: JournalAct,
}

/// Damage to a file of the journal.
#[derive(Debug, Clone, Copy)]
pub enum JournalAct {
    /// Flips these bits of a byte.
    Flip(u8),
    /// Ends the file here.
    Cut,
    /// Sets so many bytes to zero.
    Zero(u8),
    /// Overwrites so many bytes with those at this offset.
    Copy(u8, u16),
}

/// Damages a journal with this many changes, `in_second` of which are in the second file.
///
/// The changes taken from it must be a prefix of the written ones, at least up to `acknowledged`; otherwise
/// it must be refused.
pub fn check_journal(changes: u8, in_second: u8, last: u8, acknowledged: u8, damages: &[JournalDamage]) {
    let changes = u64::from(changes);
    let (last, acknowledged) = (u64::from(last).min(changes), u64::from(acknowledged).min(changes));
    let second_begins = changes.saturating_sub(in_second.into());
    let mark = |number: u64| RecordHeader { identity: IDENTITY, number, synced: number.saturating_sub(1) };
    let mut files = [0, 1].map(|_| {
        let mut beginning = journal_record::encode(RecordHeader { synced: 0, ..mark(0) }, &[]);
        beginning.resize(BEGINNING, 0);
        beginning
    });
    for number in 1..=changes {
        let file = &mut files[usize::from(number > second_begins)];
        file.extend(journal_record::encode(mark(number), &writes(number)));
    }
    let whole = JournalFiles::of(files.clone()).pending(IDENTITY, last, acknowledged).expect("it is whole");
    assert!(whole.iter().map(|change| change.number).eq(last + 1..=changes), "everything is there");

    for JournalDamage { file, at, act } in damages {
        let file = &mut files[usize::from(file % 2)];
        let at = usize::from(*at).min(file.len());
        let until = |count: u8, from: usize| file.len().min(from + usize::from(count));
        match *act {
            JournalAct::Flip(bits) => {
                if let Some(byte) = file.get_mut(at) {
                    *byte ^= bits;
                }
            }
            JournalAct::Cut => file.truncate(at),
            JournalAct::Zero(count) => {
                let end = until(count, at);
                file[at..end].fill(0);
            }
            JournalAct::Copy(count, from) => {
                let from = usize::from(from).min(file.len());
                let end = until(count, from).min(from + file.len() - at);
                file.copy_within(from..end, at);
            }
        }
    }
    let found = JournalFiles::of(files);
    let _ = found.check_files(IDENTITY, Some(IDENTITY));
    let Ok(pending) = found.pending(IDENTITY, last, acknowledged) else { return };
    assert!(last + pending.len() as u64 >= acknowledged, "what was acknowledged is there");
    for (change, number) in pending.iter().zip(last + 1..) {
        assert!(change.number == number && change.writes == writes(number), "a change is as it was written");
    }
}

/// The writes of the record with this number.
fn writes(number: u64) -> Vec<Write> {
    let key = |kind: u8| [&[kind][..], &number.to_be_bytes()].concat();
    let value = vec![number as u8; 3 * number as usize % 50];
    let put = Write { key: key(b'l').into(), value: Some(value.into()), fresh: number.is_multiple_of(2) };
    let removal = Write { key: key(b'd').into(), value: None, fresh: false };
    if number.is_multiple_of(3) { vec![put, removal] } else { vec![put] }
}
