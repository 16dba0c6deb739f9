use std::cell::Cell;
use std::pin::pin;

use tokio::runtime::Builder;

use super::*;
use crate::engine::connection::BUFFER_BYTES;

#[test]
fn a_socket_that_never_pauses_has_its_turn_and_each_read_its_own_moment() {
    let mut buffer = vec![0; BUFFER_BYTES];
    let (mut pieces, mut moments) = (Vec::new(), Vec::new());
    let mut turn = Turn { buffer: &mut buffer, filled: 0, pieces: &mut pieces };
    let emptied = turn.read(7, |window| {
        moments.push(now_ns());
        Poll::Ready(Ok(window.len()))
    });
    assert!(!emptied, "who knows what it still has");
    assert!(!turn.read(8, |_| panic!("there is no room for it")), "the next one waits for its turn");
    assert_eq!(turn.filled, BUFFER_BYTES);
    moments.push(u64::MAX);
    let mut bytes = 0;
    for (piece, moment) in pieces.iter().zip(moments.windows(2)) {
        assert!(piece.at == 7 && (moment[0]..=moment[1]).contains(&piece.now), "{piece:?} of {moment:?}");
        let range = piece.read.as_ref().unwrap();
        assert_eq!(range.start, bytes, "nothing is read over what was read before");
        bytes = range.end;
    }
    assert_eq!((pieces.len(), bytes), (moments.len() - 1, BUFFER_BYTES));
}

#[test]
fn a_socket_is_read_until_it_has_no_more() {
    let mut buffer = vec![0; BUFFER_BYTES];
    for last in [Poll::Pending, Poll::Ready(0)] {
        let mut pieces = Vec::new();
        let mut turn = Turn { buffer: &mut buffer, filled: 0, pieces: &mut pieces };
        let mut script = [Poll::Ready(3), Poll::Ready(5), last].into_iter();
        assert!(turn.read(7, |_| script.next().expect("nobody asks again").map(Ok)));
        assert_eq!((turn.filled, script.len()), (8, 0));
        let read: Vec<_> = pieces.into_iter().map(|piece| piece.read.unwrap()).collect();
        assert_eq!(read[..2], [0..3, 3..8]);
        assert_eq!(read.len(), if last.is_ready() { 3 } else { 2 }, "an end is told of");
    }
}

/// The place's socket has something to read.
fn wake(at: u32) {
    waker(at).wake();
}

/// Let these places be ready, and take turns until `over` says so after one; `read` is what a turn does.
fn take_turns(places: std::ops::Range<u32>, read: impl FnMut(&[u32]) -> usize, mut over: impl FnMut() -> bool) {
    READY.with(|ready| ready.places.take());
    places.for_each(wake);
    let runtime = Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut reading = pin!(in_turns(read));
        std::future::poll_fn(|cx| {
            assert!(reading.as_mut().poll(cx).is_pending());
            if over() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    });
}

#[test]
fn a_place_that_is_always_ready_leaves_the_others_their_turns() {
    let (in_a_row, mut turns) = (Cell::new(0), 0);
    take_turns(
        0..1,
        |ready| {
            in_a_row.set(in_a_row.get() + 1);
            assert!(in_a_row.get() < 100, "nobody else has had a turn");
            wake(ready[0]);
            1
        },
        || {
            turns += 1;
            assert_eq!(in_a_row.take(), 1);
            turns == 3
        },
    );
}

#[test]
fn who_becomes_ready_waits_for_those_who_were_before() {
    let turns = RefCell::new(Vec::new());
    take_turns(
        0..4,
        |ready| {
            let mut turns = turns.borrow_mut();
            turns.push(ready.to_vec());
            if turns.len() == 1 {
                wake(9);
            }
            ready.len().min(3)
        },
        || turns.borrow().len() == 2,
    );
    assert_eq!(turns.into_inner(), [vec![0, 1, 2, 3], vec![3, 9]]);
}
