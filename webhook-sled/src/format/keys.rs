//! Where each record is in the tree. Part of the on-disk format: every change needs a new format number.
//!
//! Ids are sixteen big-endian bytes, so records of one kind sort by age. `|` joins parts.
//!
//! | key | value |
//! |---|---|
//! | `f` | format number |
//! | `n` | number of the last change |
//! | `j` | the store's clock |
//! | `b` | sums of the values of each kind |
//! | `a` | number of the newest change that was acknowledged when the last one was made |
//! | `s` | id of the store, and number of its openings |
//! | `w`\|webhook | webhook |
//! | `u`\|webhook | time of its last use |
//! | `l`\|run | live runs of one time bucket |
//! | `p`\|run\|number | part of a run's parameters that are kept apart from its record |
//! | `c`\|fence | changes of some live runs by claiming them; the fence is that of the first one |
//! | `r`\|run | ended runs of one time bucket, webhook, workflow and state |
//! | `y`\|workflow\|state\|run | position of ended runs, for lists |
//! | `h`\|webhook\|state\|run | position of ended runs, for lists and pruning: time at which the first of them ended |
//! | `k`\|webhook\|SHA-256 of key | idempotency key |
//! | `x`\|expiry\|webhook\|SHA-256 of key | idempotency keys to prune |
//! | `e`\|run | expiry of its idempotency key |
//! | `d`\|run\|delivery | delivery |
//! | `i`\|delivery | its run |
//! | `o`\|delivery | its run and due time, while it is pending |
//! | `g`\|run\|offset | part of a run's log |
//! | `t`\|key\|number | the rest of a record that is too large for one value |
//!
//! A value of `l` or `r` holds several runs of one time bucket, and its key names the oldest of them. The ids
//! of a bucket begin with the same 44 bits of time, which are 16 ms.
//! So a run is found by reading the values of its bucket. The first format had a value for each run.

use sha2::{Digest, Sha256};
use webhook_core::id::{DeliveryId, RunId, WebhookId, WorkflowKey};
use webhook_core::run::RunState;
use webhook_core::store::StoreError;

use crate::format::value::damaged;

pub(crate) const FORMAT: &[u8] = b"f";
pub(crate) const BATCH_NUMBER: &[u8] = b"n";
pub(crate) const SUMS: &[u8] = b"b";
pub(crate) const CLOCK: &[u8] = b"j";
pub(crate) const ACKNOWLEDGED: &[u8] = b"a";
pub(crate) const IDENTITY: &[u8] = b"s";

pub(crate) const WEBHOOK: u8 = b'w';
pub(crate) const LAST_USE: u8 = b'u';
pub(crate) const LIVE: u8 = b'l';
pub(crate) const CLAIMS: u8 = b'c';
pub(crate) const ENDED: u8 = b'r';
pub(crate) const BY_WORKFLOW: u8 = b'y';
pub(crate) const BY_WEBHOOK: u8 = b'h';
pub(crate) const IDEMPOTENCY: u8 = b'k';
pub(crate) const EXPIRY: u8 = b'x';
pub(crate) const KEPT: u8 = b'e';
pub(crate) const DELIVERY: u8 = b'd';
pub(crate) const DELIVERY_RUN: u8 = b'i';
pub(crate) const PENDING: u8 = b'o';
pub(crate) const PARAMETERS: u8 = b'p';
pub(crate) const LOG: u8 = b'g';
pub(crate) const TAIL: u8 = b't';

/// All kinds, in the order of a check: the parts of a record come after it.
pub(crate) const KINDS: [u8; 16] = [
    WEBHOOK,
    LAST_USE,
    LIVE,
    CLAIMS,
    ENDED,
    BY_WORKFLOW,
    BY_WEBHOOK,
    IDEMPOTENCY,
    EXPIRY,
    KEPT,
    DELIVERY,
    DELIVERY_RUN,
    PENDING,
    PARAMETERS,
    LOG,
    TAIL,
];

/// Returns the index of a key's kind in [`KINDS`], or `None` for one of the store's own keys.
pub(crate) fn kind_index(key: &[u8]) -> Option<usize> {
    let kind = key.first()?;
    KINDS.iter().position(|known| known == kind)
}

/// Returns the key of a kind of record and an id of sixteen bytes.
pub(crate) fn by_id(kind: u8, id: &[u8; 16]) -> [u8; 17] {
    let mut key = [kind; 17];
    key[1..].copy_from_slice(id);
    key
}

/// First bytes of a run's id: the 16 ms in which it was made.
pub(crate) type TimeBucket = [u8; 6];

pub(crate) fn time_bucket(run: RunId) -> TimeBucket {
    let [a, b, c, d, e, f, ..] = *run.as_bytes();
    [a, b, c, d, e, f & 0xf0]
}

/// Returns the first and the last key that runs of a bucket can have.
pub(crate) fn keys_of_bucket(kind: u8, bucket: TimeBucket) -> ([u8; 17], [u8; 17]) {
    let (mut first, mut last) = ([0; 16], [0xff; 16]);
    first[..6].copy_from_slice(&bucket);
    last[..6].copy_from_slice(&bucket);
    last[5] |= 0x0f;
    (by_id(kind, &first), by_id(kind, &last))
}

/// Returns the smallest id that a run of a bucket can have.
pub(crate) fn first_of_bucket(bucket: TimeBucket) -> RunId {
    let ([_, first @ ..], _) = keys_of_bucket(ENDED, bucket);
    RunId::from_bytes(first)
}

/// Returns the greatest id in the bucket of this id.
pub(crate) fn last_of_bucket(id: [u8; 16]) -> RunId {
    let (_, [_, last @ ..]) = keys_of_bucket(ENDED, time_bucket(RunId::from_bytes(id)));
    RunId::from_bytes(last)
}

/// Returns the offset in the key of a part of a log.
pub(crate) fn log_offset(key: &[u8]) -> Result<u64, StoreError> {
    let offset = key.last_chunk().ok_or_else(|| damaged("a log's key is too short"))?;
    Ok(u64::from_be_bytes(*offset))
}

/// Returns the id at the end of a key.
pub(crate) fn last_id(key: &[u8]) -> Option<[u8; 16]> {
    key.last_chunk().copied()
}

pub(crate) fn delivery(run: RunId, id: DeliveryId) -> Vec<u8> {
    [&[DELIVERY][..], run.as_bytes(), id.as_bytes()].concat()
}

pub(crate) fn delivery_run(id: DeliveryId) -> [u8; 17] {
    by_id(DELIVERY_RUN, id.as_bytes())
}

pub(crate) fn parameters(run: RunId, number: u16) -> [u8; 19] {
    let mut key = [PARAMETERS; 19];
    key[1..17].copy_from_slice(run.as_bytes());
    key[17..].copy_from_slice(&number.to_be_bytes());
    key
}

pub(crate) fn log(run: RunId, offset: u64) -> Vec<u8> {
    [&[LOG][..], run.as_bytes(), &offset.to_be_bytes()].concat()
}

pub(crate) fn log_of(run: RunId) -> [u8; 17] {
    by_id(LOG, run.as_bytes())
}

pub(crate) fn tail(record: &[u8], number: u16) -> Vec<u8> {
    [&[TAIL][..], record, &number.to_be_bytes()].concat()
}

/// Key of the idempotency key of a webhook, without its first byte.
pub(crate) type KeyPlace = [u8; 48];

pub(crate) fn key_place(webhook: WebhookId, key: &str) -> KeyPlace {
    let mut place = [0; 48];
    place[..16].copy_from_slice(webhook.as_bytes());
    place[16..].copy_from_slice(&Sha256::digest(key.as_bytes()));
    place
}

pub(crate) fn idempotency(place: &KeyPlace) -> Vec<u8> {
    [&[IDEMPOTENCY][..], place].concat()
}

pub(crate) fn expiry(milliseconds: u64, place: &KeyPlace) -> Vec<u8> {
    [&[EXPIRY][..], &milliseconds.to_be_bytes(), place].concat()
}

pub(crate) fn claims(first_fence: u64) -> [u8; 9] {
    let mut key = [CLAIMS; 9];
    key[1..].copy_from_slice(&first_fence.to_be_bytes());
    key
}

/// Returns the form of a workflow in keys: a prefix of its SHA-256, which keeps keys short whatever its name.
pub(crate) fn workflow(workflow: &WorkflowKey) -> [u8; 16] {
    let digest = Sha256::digest(workflow.to_string().as_bytes());
    let mut short = [0; 16];
    short.copy_from_slice(&digest[..16]);
    short
}

/// Returns the prefix of all keys of ended runs of a workflow or webhook in this state.
pub(crate) fn ended(kind: u8, of: &[u8; 16], state: RunState) -> Vec<u8> {
    [&[kind][..], of, &[state_byte(state)]].concat()
}

/// Returns the id of a workflow or webhook after the first byte of a key.
pub(crate) fn first_id(key: &[u8]) -> Option<[u8; 16]> {
    key.get(1..)?.first_chunk().copied()
}

/// Returns the expiry and the key place in a key made by [`expiry`].
pub(crate) fn parse_expiry(key: &[u8]) -> Option<(u64, KeyPlace)> {
    let (expires, place) = key.get(1..)?.split_first_chunk()?;
    Some((u64::from_be_bytes(*expires), place.try_into().ok()?))
}

/// Returns the state with this number.
pub(crate) fn state_of_byte(byte: u8) -> Option<RunState> {
    RunState::ALL.into_iter().find(|state| state_byte(*state) == byte)
}

/// Returns the number of a state. Numbers never change their meaning; a new state gets a new one.
pub(crate) fn state_byte(state: RunState) -> u8 {
    match state {
        RunState::Queued => 0,
        RunState::Running => 1,
        RunState::Succeeded => 2,
        RunState::Failed => 3,
        RunState::TimedOut => 4,
        RunState::Cancelled => 5,
        RunState::Skipped => 6,
        _ => u8::MAX,
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn what_is_put_into_a_key_is_read_back_from_it() {
        let now = SystemTime::now();
        let (webhook, run) = (WebhookId::generate(now), RunId::generate(now));
        let key = [ended(BY_WEBHOOK, webhook.as_bytes(), RunState::Failed), run.as_bytes().to_vec()].concat();
        assert_eq!(first_id(&key), Some(*webhook.as_bytes()));
        let place = key_place(webhook, "key");
        assert_eq!(parse_expiry(&expiry(9, &place)), Some((9, place)));
        assert_eq!(last_id(&by_id(ENDED, run.as_bytes())), Some(*run.as_bytes()));
        assert_eq!(first_id(b"h"), None);
    }

    #[test]
    fn no_two_kinds_of_record_share_their_first_byte() {
        let own = [FORMAT, BATCH_NUMBER, SUMS, CLOCK, ACKNOWLEDGED, IDENTITY].map(|key| key[0]);
        let kinds = [&KINDS[..], &own].concat();
        let distinct: std::collections::BTreeSet<u8> = kinds.iter().copied().collect();
        assert_eq!(distinct.len(), kinds.len());
    }
}
