//! The sequence of ids that a process generates. It grows whatever the clock does.

use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use uuid::Uuid;

/// Number of bits of a UUIDv7 that are neither time, version nor variant.
const TAIL_BITS: u32 = 74;

/// Upper bound on the ids of one millisecond. Stores keep runs of neighbouring milliseconds together, so
/// there must not be many, whatever the clock does.
const MOST_IN_MILLISECOND: u32 = 256;
/// Upper bound on the ids of one millisecond while ids are far ahead of the clock, as after it was set back.
/// Their time then advances by itself.
const MOST_WHILE_AHEAD: u32 = 12;
/// Lead over the clock that counts as far ahead, in milliseconds.
const FAR_AHEAD: u64 = 1_000;

/// Time part, tail and count of the newest id.
static LAST: Mutex<Moment> = Mutex::new(Moment { milliseconds: 0, tail: 0, count: 0 });

/// Position of an id in the order of all ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Moment {
    milliseconds: u64,
    /// The 74 bits after the time.
    tail: u128,
    /// Number of ids with this millisecond so far.
    count: u32,
}

/// Returns the next id, greater than all before.
pub(super) fn next_uuid(now: SystemTime) -> Uuid {
    let milliseconds = now.duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis() as u64);
    let mut last = LAST.lock();
    *last = following(*last, milliseconds, rand::random(), rand::random());
    compose(last.milliseconds, last.tail)
}

/// Returns the successor of `last`: fresh random bits in a new millisecond, otherwise a random step forward.
///
/// Ids advance even while the clock stands still or jumps back.
fn following(last: Moment, milliseconds: u64, random: u128, step: u32) -> Moment {
    // The top bit starts at zero, which leaves room for more ids within this millisecond.
    let first = |milliseconds| Moment { milliseconds, tail: random & ((1 << (TAIL_BITS - 1)) - 1), count: 1 };
    if milliseconds > last.milliseconds {
        return first(milliseconds);
    }
    let is_far = last.milliseconds - milliseconds >= FAR_AHEAD;
    let most = if is_far { MOST_WHILE_AHEAD } else { MOST_IN_MILLISECOND };
    let tail = last.tail + 1 + u128::from(step);
    if last.count >= most || tail >> TAIL_BITS > 0 {
        return first(last.milliseconds + 1);
    }
    Moment { milliseconds: last.milliseconds, tail, count: last.count + 1 }
}

fn compose(milliseconds: u64, tail: u128) -> Uuid {
    let time = u128::from(milliseconds & 0xffff_ffff_ffff) << 80;
    let high = (tail >> 62 & 0xfff) << 64;
    let low = tail & ((1 << 62) - 1);
    Uuid::from_u128(time | 0x7 << 76 | high | 0b10 << 62 | low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_millisecond_moves_on_to_the_next() {
        let full = Moment { milliseconds: 5, tail: (1 << TAIL_BITS) - 1, count: 9 };
        assert_eq!(following(full, 5, 9, 0), Moment { milliseconds: 6, tail: 9, count: 1 });
        assert!(compose(6, 0) > compose(5, full.tail));
    }

    /// Returns the milliseconds of ids generated at these times.
    fn made_at(times: impl Iterator<Item = u64>) -> Vec<u64> {
        let mut last = Moment { milliseconds: 0, tail: 0, count: 0 };
        let made = times.map(|time| {
            let next = following(last, time, rand::random(), rand::random());
            assert!(compose(next.milliseconds, next.tail) > compose(last.milliseconds, last.tail));
            assert_eq!(next.tail >> TAIL_BITS, 0);
            last = next;
            next.milliseconds
        });
        made.collect()
    }

    /// Returns the largest number of ids with the same first 44 bits of time, which stores keep together.
    fn most_together(ids: &[u64]) -> usize {
        ids.chunk_by(|a, b| a >> 4 == b >> 4).map(<[_]>::len).max().unwrap_or(0)
    }

    #[test]
    fn few_ids_share_their_time_when_the_clock_goes_back_or_stands_still() {
        let hour = 3_600_000;
        let set_back = made_at([2 * hour].into_iter().chain((0..36_000).map(|tick| hour + tick * 100)));
        assert!(most_together(&set_back) <= 200, "{}", most_together(&set_back));
        let still = made_at(std::iter::repeat_n(hour, 400_000));
        assert!(most_together(&still) <= 16 * 256, "{}", most_together(&still));
        assert!(most_together(&still[300_000..]) <= 200);
    }

    #[test]
    fn ids_stay_close_to_a_clock_that_moves_however_many_are_made() {
        // A hundred in each millisecond, for five seconds.
        let ids = made_at((0..500_000).map(|number| 1_000 + number / 100));
        let lead = ids.iter().zip(0..).map(|(id, number)| id - (1_000 + number / 100)).max().unwrap();
        assert!(lead < 2, "{lead} ms");
    }
}
