//! The queue of whoever follows a run: its order, its bounds, and when it wakes its reader.

use super::*;

fn requests(frames: &[Vec<u8>]) -> Vec<(u16, u64)> {
    frames.iter().flat_map(|frame| records(frame)).map(|r| (r.source, r.event.request.unwrap())).collect()
}

#[test]
fn an_event_of_the_session_waits_for_what_had_left_the_workers_before_it() {
    let (mut senders, queue) = event_queue(&[0, 1]).unwrap();
    let mut session = senders.pop().unwrap();
    for i in 0..3 {
        for (source, sender) in senders.iter_mut().enumerate() {
            sender.send(frame_of(source as u16, EventType::SampleIssued, i), 1);
        }
    }
    session.send(frame_of(SESSION_SOURCE, EventType::SessionEnded, 99), 1);
    // What is put in after the session's word comes after it, whenever it is taken out.
    senders[1].send(frame_of(1, EventType::SampleIssued, 50), 1);
    let mut all = queue.take(1);
    senders[0].send(frame_of(0, EventType::SampleIssued, 51), 1);
    while let more = queue.take(1)
        && !more.is_empty()
    {
        all.extend(more);
    }
    let expected = [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2), (SESSION_SOURCE, 99), (0, 51), (1, 50)];
    assert_eq!(requests(&all), expected);
}

fn is_readable(queue: &EventQueue) -> bool {
    let mut poll = libc::pollfd { fd: queue.fileno(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid, writable pollfd.
    unsafe { libc::poll(&mut poll, 1, 0) == 1 }
}

#[test]
fn the_descriptor_is_readable_as_long_as_frames_wait() {
    let (mut senders, queue) = event_queue(&[0]).unwrap();
    let readable = || is_readable(&queue);
    assert!(!readable());
    (0..3).for_each(|i| senders[0].send(frame_of(0, EventType::SampleIssued, i), 1));
    senders[0].wake();
    assert!(readable());
    assert_eq!(queue.take(2).len(), 2);
    assert!(readable(), "one is left");
    assert_eq!(queue.take(2).len(), 1);
    assert!(!readable());
    assert!(queue.take(2).is_empty());
}

#[test]
fn the_publisher_is_told_of_a_flush_before_its_oldest_event_is_too_old() {
    let (mut emitter, queue) = publishing(BatchLimits { send_threshold: 2, max_age_ns: 1_000, ..NEVER });
    (0..2).for_each(|i| emitter.issued(10 + i, i, 0, 0));
    assert!(!is_readable(&queue), "more may come");
    emitter.issued(500, 2, 0, 0);
    assert_eq!(emitter.leaves_ns(), Some(1_010), "of what has left the batch, too");
    emitter.flush_if_due(1_009);
    assert!(!is_readable(&queue));
    emitter.flush_if_due(1_010);
    assert!(is_readable(&queue));
    assert_eq!((queue.take(9).len(), emitter.leaves_ns()), (1, Some(1_500)), "the third waits for a batch");
    emitter.issued(1_500, 3, 0, 0);
    assert!(is_readable(&queue), "the event that shows it tells it");
    assert_eq!((queue.take(9).len(), emitter.leaves_ns()), (1, None));
}

#[test]
fn the_publisher_is_told_of_much_at_once() {
    let (mut emitter, queue) = publishing(BatchLimits { send_threshold: 100, ..NEVER });
    let events = (0..).find(|&i| {
        emitter.issued(1, i, 0, 0);
        is_readable(&queue)
    });
    let frames = queue.take(usize::MAX);
    let bytes: usize = frames.iter().map(Vec::len).sum();
    assert_eq!(events, Some(100 * frames.len() as u64 - 1));
    assert!((256 << 10..264 << 10).contains(&bytes), "{bytes}");
}

#[test]
fn the_publisher_is_told_of_each_flush_that_is_asked_for_and_of_each_event_without_batches() {
    let (mut emitter, queue) = publishing(NEVER);
    emitter.issued(1, 0, 0, 0);
    emitter.flush();
    assert!(is_readable(&queue));
    assert_eq!(queue.take(9).len(), 1);
    emitter.flush();
    assert!(!is_readable(&queue), "of nothing it is not told");
    emitter.session(EventType::SessionEnded, 1, "run", SessionData::None);
    assert!(is_readable(&queue));
    let (mut emitter, queue) = publishing(BatchLimits { send_threshold: 1, ..NEVER });
    emitter.issued(1, 0, 0, 0);
    assert!(is_readable(&queue));
}

#[test]
fn a_full_ring_drops_and_counts_and_never_holds_its_source_up() {
    let (mut senders, queue) = event_queue(&[4, 5]).unwrap();
    let limits = BatchLimits { send_threshold: 1, ..NEVER };
    let mut emitter = Emitter::new(4, limits, false, Outlets { log: None, publisher: Some(senders.remove(0)) });
    // Nobody takes anything out, so a source that waited would wait for ever.
    (0..50_000).for_each(|i| emitter.issued(i, i, 0, 0));
    let dropped = queue.dropped();
    assert!(dropped > 0);
    assert_eq!(queue.dropped_by_source(), [(4, dropped)]);
    let taken = queue.take(usize::MAX);
    assert_eq!(taken.len() as u64 + dropped, 50_000);
    emitter.issued(1, 50_000, 0, 0);
    let next = queue.take(9);
    assert_eq!(Frame::decode(&next[0]).unwrap().topic_seq, 50_000, "a subscriber sees the gap");
    assert_eq!(queue.dropped(), dropped);
}

#[test]
fn a_ring_is_bounded_in_bytes_too() {
    let (mut senders, queue) = event_queue(&[0]).unwrap();
    let big = frame_of(0, EventType::SampleIssued, 0).into_iter().chain(vec![0; 1 << 20]).collect::<Vec<u8>>();
    (0..64).for_each(|_| senders[0].send(big.clone(), 10));
    let kept = queue.take(100).len() as u64;
    assert!((20..=32).contains(&kept), "{kept} MiB");
    assert_eq!(queue.dropped(), 10 * (64 - kept));
    senders[0].send(big, 10);
    assert_eq!(queue.take(100).len(), 1, "room comes back");
}
