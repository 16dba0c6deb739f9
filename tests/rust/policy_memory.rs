//! What the policy keeps of a million calls, and that it asks for no memory while it decides.

#![allow(clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::VecDeque;

use loadgen::policy::{Action, AttemptId, Config, End, Event, Policy};

/// The system's allocator, which counts for each thread what it has and how often it asked.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static ASKED: Cell<usize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // A thread that is ending has no counters any more, and nothing to count.
    let _ = HELD.try_with(|held| held.set(held.get() + bytes));
    if bytes > 0 {
        let _ = ASKED.try_with(|asked| asked.set(asked.get() + 1));
    }
}

// SAFETY: every call is handed on to the system's allocator as it came; the counters are plain cells of this thread, which
// allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps to the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: `at` came from `System.alloc` or `System.realloc` with this layout, as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: as for `dealloc`; the caller keeps to the contract of `realloc`.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ITEMS: u32 = 200_000;
const S: u64 = 1_000_000_000;

/// A batch with everything on, and its driver, which holds no memory of its own in the end.
struct Batch {
    policy: Policy,
    running: VecDeque<AttemptId>,
    now: u64,
}

impl Batch {
    fn new() -> Self {
        let all = r#"{"rates":{"rpm":1e9,"tpm":1e12},"call_timeout_s":600,"streaming":true}"#;
        let config = Config::named("hedged", 256, None, Some(all)).unwrap();
        Self { policy: Policy::new(&config, 1).unwrap(), running: VecDeque::with_capacity(512), now: 0 }
    }

    /// Make so many calls, one after the other as they end.
    fn make(&mut self, calls: u32) {
        let mut ended = 0;
        while ended < calls {
            while let Some(action) = self.policy.poll(self.now) {
                if let Action::Start { attempt, .. } = action {
                    self.running.push_back(attempt);
                }
            }
            let attempt = self.running.pop_front().unwrap();
            self.now += S / 1_000;
            self.policy.on_event(self.now, Event::FirstToken { attempt });
            self.policy.on_event(self.now, Event::Ended { attempt, end: End { tokens_out: 9, ..End::default() } });
            ended += 1;
        }
    }
}

#[test]
fn an_item_and_its_attempt_take_less_than_a_hundred_bytes() {
    let before = HELD.get();
    let mut batch = Batch::new();
    // One by one, with something to decide in between: nothing is saved by their having come together.
    for item in 0..ITEMS {
        batch.now += 1_000;
        batch.policy.on_event(batch.now, Event::Queued { count: 1, key: item % 7, tokens: 50 });
        if item % 16 == 0 {
            batch.make(1);
        }
    }
    batch.make(ITEMS - batch.policy.totals().ok as u32);
    let bytes = (HELD.get() - before) as f64 / f64::from(ITEMS);
    assert_eq!((batch.policy.totals().ok, batch.policy.totals().hedges), (u64::from(ITEMS), 0));
    assert!(bytes <= 100.0, "{bytes:.1} bytes");
    // The rows alone are 88: less would mean that this counts nothing.
    assert!(bytes >= 88.0, "{bytes:.1} bytes");
}

#[test]
fn nothing_is_allocated_while_it_decides_but_rows_by_the_thousand() {
    let mut batch = Batch::new();
    batch.policy.on_event(0, Event::Queued { count: ITEMS, key: 0, tokens: 50 });
    batch.make(ITEMS / 4);
    let asked = ASKED.get();
    batch.make(ITEMS / 2);
    let asked = ASKED.get() - asked;
    // A chunk of attempts holds 4,096, and now and then the list of chunks or the trace grows.
    let chunks = (ITEMS / 2 / 4_096) as usize;
    assert!((chunks..=chunks + 8).contains(&asked), "asked {asked} times");
}

#[test]
fn a_policy_that_forgets_what_is_over_stays_as_small_however_long_it_lasts() {
    let mut batch = Batch::new();
    let mut most = [0, 0];
    for most in &mut most {
        let before = HELD.get();
        for _ in 0..ITEMS / 64 {
            batch.policy.on_event(batch.now, Event::Queued { count: 64, key: 0, tokens: 50 });
            batch.make(64);
            batch.policy.forget();
            *most = (*most).max(HELD.get() - before);
        }
    }
    assert_eq!(batch.policy.totals().ok, 2 * u64::from(ITEMS / 64 * 64));
    // Each holds a chunk of items and one of attempts at most, 4,096 rows of 88 bytes, and another as it is begun.
    assert!(most[0] < 1_000_000 && most[1] < 400_000, "{most:?}");
    assert!(batch.policy.items().get(0).is_none() && batch.policy.attempts().get(0).is_none());
}

#[test]
fn what_is_forgotten_may_still_be_told_of() {
    let mut batch = Batch::new();
    batch.policy.on_event(0, Event::Queued { count: 20_000, key: 0, tokens: 50 });
    batch.make(20_000);
    assert!(matches!(batch.policy.poll(batch.now), Some(Action::Resolve { item: 19_999, .. })));
    batch.policy.forget();
    for attempt in [0, 4_095, 8_191] {
        batch.policy.on_event(batch.now, Event::FirstByte { attempt });
        batch.policy.on_event(batch.now, Event::FirstToken { attempt });
        batch.policy.on_event(batch.now, Event::Ended { attempt, end: End { tokens_out: 9, ..End::default() } });
        batch.policy.on_event(batch.now, Event::Cancel { item: attempt });
    }
    assert_eq!((batch.policy.poll(batch.now), batch.policy.totals().ok), (None, 20_000));
}
