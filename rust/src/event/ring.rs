//! A bounded ring between one thread that puts in and one that takes out; neither ever waits for the other.
//!
//! The orderings are a parameter, so that its loom model can weaken each of them in turn and show that it is needed.

use std::marker::PhantomData;

use crate::sync::{Arc, AtomicU64, Ordering, UnsafeCell};

/// The orderings of a ring, each named by what it does. [`Proven`] is the one to use.
pub trait Orders: Send + Sync + 'static {
    /// `tail` is stored after a slot was filled; pairs with [`Orders::SEE`].
    const PUBLISH: Ordering = Ordering::Release;
    /// `tail` is loaded before a slot is emptied; pairs with [`Orders::PUBLISH`].
    const SEE: Ordering = Ordering::Acquire;
    /// `head` is stored after a slot was emptied; pairs with [`Orders::REUSE`].
    const FREE: Ordering = Ordering::Release;
    /// `head` is loaded before a slot is filled again; pairs with [`Orders::FREE`].
    const REUSE: Ordering = Ordering::Acquire;
}

/// The orderings that the loom model finds sufficient, and none of which it finds dispensable.
#[derive(Debug)]
pub struct Proven;

impl Orders for Proven {}

/// One end's position on cache lines of its own, so that the two ends don't slow each other down.
#[repr(align(128))]
struct Position(AtomicU64);

struct Ring<T, O> {
    slots: Box<[UnsafeCell<Option<T>>]>,
    /// How many were taken out; written by the consumer alone.
    head: Position,
    /// How many were put in; written by the producer alone.
    tail: Position,
    orders: PhantomData<O>,
}

// SAFETY: a slot is reached by one side at a time: by the producer while `tail - head < slots`, by the consumer once
// `tail` says that it is filled. The orderings of `O` hand it over; `T: Send` lets its content change threads.
unsafe impl<T: Send, O> Sync for Ring<T, O> {}
// SAFETY: it owns what it holds, and that may change threads.
unsafe impl<T: Send, O> Send for Ring<T, O> {}

/// The end that puts in.
pub struct Producer<T, O: Orders = Proven> {
    ring: Arc<Ring<T, O>>,
    tail: u64,
    /// `head` when it was last looked at: it only grows, so an old one errs towards a full ring.
    head: u64,
}

/// The end that takes out.
pub struct Consumer<T, O: Orders = Proven> {
    ring: Arc<Ring<T, O>>,
    head: u64,
    /// `tail` when it was last looked at.
    tail: u64,
}

/// Reads how much has been put into a ring, from any thread.
pub struct Gauge<T, O: Orders = Proven>(Arc<Ring<T, O>>);

/// A ring with room for `capacity` values, a power of two, by its two ends.
pub fn ring<T, O: Orders>(capacity: usize) -> (Producer<T, O>, Consumer<T, O>) {
    debug_assert!(capacity.is_power_of_two());
    let ring = Arc::new(Ring {
        slots: (0..capacity).map(|_| UnsafeCell::new(None)).collect(),
        head: Position(AtomicU64::new(0)),
        tail: Position(AtomicU64::new(0)),
        orders: PhantomData,
    });
    (Producer { ring: Arc::clone(&ring), tail: 0, head: 0 }, Consumer { ring, head: 0, tail: 0 })
}

impl<T, O> Ring<T, O> {
    #[inline]
    fn slot(&self, position: u64) -> &UnsafeCell<Option<T>> {
        &self.slots[position as usize & (self.slots.len() - 1)]
    }
}

impl<T, O: Orders> Producer<T, O> {
    /// Put `value` in, or get it back: the ring is full.
    pub fn push(&mut self, value: T) -> Result<(), T> {
        if self.tail - self.head == self.ring.slots.len() as u64 {
            // REUSE: pairs with FREE in `pop`; the slot's last content was taken out before we fill it.
            self.head = self.ring.head.0.load(O::REUSE);
            if self.tail - self.head == self.ring.slots.len() as u64 {
                return Err(value);
            }
        }
        // SAFETY: `head ≤ tail < head + slots`, so the consumer has left this slot and does not come back before `tail`
        // has passed it. There is one producer, and it is borrowed mutably.
        self.ring.slot(self.tail).with_mut(|slot| unsafe { *slot = Some(value) });
        self.tail += 1;
        // PUBLISH: pairs with SEE in `reach`; whoever sees this tail sees the slot filled.
        self.ring.tail.0.store(self.tail, O::PUBLISH);
        Ok(())
    }
}

impl<T, O: Orders> Gauge<T, O> {
    /// How many have been put in so far. A consumer that learns of it finds at least as many.
    pub fn reach(&self) -> u64 {
        // SEE: pairs with PUBLISH in `push`.
        self.0.tail.0.load(O::SEE)
    }
}

impl<T, O: Orders> Consumer<T, O> {
    /// For others to read how much has been put in.
    pub fn gauge(&self) -> Gauge<T, O> {
        Gauge(Arc::clone(&self.ring))
    }

    /// Take the oldest value out.
    pub fn pop(&mut self) -> Option<T> {
        if self.head == self.tail && self.reach() == self.head {
            return None;
        }
        // SAFETY: `head < tail`, so the producer has filled this slot and does not come back before `head` has passed
        // it. There is one consumer, and it is borrowed mutably.
        let value = self.ring.slot(self.head).with_mut(|slot| unsafe { (*slot).take() });
        self.head += 1;
        // FREE: pairs with REUSE in `push`; whoever sees this head may fill the slot again.
        self.ring.head.0.store(self.head, O::FREE);
        value
    }

    /// How many were taken out so far.
    pub fn at(&self) -> u64 {
        self.head
    }

    /// How many have been put in so far: [`Consumer::pop`] gives something until [`Consumer::at`] is there.
    pub fn reach(&mut self) -> u64 {
        // SEE: pairs with PUBLISH in `push`.
        self.tail = self.ring.tail.0.load(O::SEE);
        self.tail
    }
}

#[cfg(all(test, not(loadgen_loom)))]
mod tests {
    use super::*;

    #[test]
    fn values_come_out_in_order_and_a_full_ring_gives_them_back() {
        let (mut producer, mut consumer) = ring::<String, Proven>(4);
        for round in 0..5 {
            for i in 0..4 {
                assert_eq!(producer.push(format!("{round}.{i}")), Ok(()));
            }
            assert_eq!(producer.push("more".to_owned()), Err("more".to_owned()));
            assert_eq!(consumer.reach() - consumer.at(), 4);
            for i in 0..4 {
                assert_eq!(consumer.pop(), Some(format!("{round}.{i}")));
            }
            assert_eq!(consumer.pop(), None);
        }
    }

    #[test]
    fn what_was_not_taken_out_is_dropped_with_the_ring() {
        let (mut producer, consumer) = ring::<Arc<()>, Proven>(2);
        let value = Arc::new(());
        assert!(producer.push(Arc::clone(&value)).is_ok());
        drop((producer, consumer));
        assert_eq!(Arc::strong_count(&value), 1);
    }

    #[test]
    fn two_threads_pass_a_million_values_without_losing_one() {
        pass::<Proven>(1_000_000);
    }

    #[test]
    #[ignore = "a data race, for `make tsan` to find"]
    fn values_pass_without_the_ordering_that_publishes_them() {
        struct Weak;
        impl Orders for Weak {
            const PUBLISH: Ordering = Ordering::Relaxed;
        }
        pass::<Weak>(10_000);
    }

    fn pass<O: Orders>(count: u64) {
        let (mut producer, mut consumer) = ring::<u64, O>(64);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for i in 0..count {
                    while producer.push(i).is_err() {
                        std::thread::yield_now();
                    }
                }
            });
            let mut next = 0;
            while next < count {
                match consumer.pop() {
                    Some(value) => {
                        assert_eq!(value, next);
                        next += 1;
                    }
                    None => std::thread::yield_now(),
                }
            }
        });
    }
}

#[cfg(all(test, loadgen_loom))]
mod model {
    use super::*;

    /// Two values through one slot: the second waits for the first to be taken out.
    fn pass<O: Orders>() {
        loom::model(|| {
            let (mut producer, mut consumer) = ring::<u32, O>(1);
            let taking = loom::thread::spawn(move || {
                let mut taken = Vec::new();
                for _ in 0..2 {
                    taken.extend(consumer.pop());
                }
                (taken, consumer)
            });
            let put: Vec<u32> = (0..2).filter(|&value| producer.push(value).is_ok()).collect();
            let (mut taken, mut consumer) = taking.join().unwrap();
            taken.extend(std::iter::from_fn(|| consumer.pop()));
            assert_eq!(taken, put, "what was put in comes out, in order");
            assert!(put.starts_with(&[0]));
        });
    }

    macro_rules! without {
        ($($test:ident: $order:ident;)*) => {$(
            #[test]
            #[should_panic(expected = "Causality violation")]
            fn $test() {
                struct Weak;
                impl Orders for Weak {
                    const $order: Ordering = Ordering::Relaxed;
                }
                pass::<Weak>();
            }
        )*};
    }

    #[test]
    fn the_ring_passes_values_in_every_interleaving() {
        pass::<Proven>();
    }

    without! {
        without_publish_a_slot_is_read_before_it_is_filled: PUBLISH;
        without_see_a_slot_is_read_before_it_is_filled: SEE;
        without_free_a_slot_is_filled_before_it_is_left: FREE;
        without_reuse_a_slot_is_filled_before_it_is_left: REUSE;
    }
}
