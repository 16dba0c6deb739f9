//! Events as a whole: what is recorded leaves in order and in time, and is read back from wherever it went.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use loadgen::clock::Anchor;
use loadgen::event::{
    Batch, BatchLimits, Emitter, Event, EventQueue, EventReader, EventType, FRAME_HEAD, Frame, FrameFault, Outlets,
    Record, SESSION_SOURCE, SessionData, TOPIC_BYTES, event_queue, is_one_value,
};
use loadgen::record::{Detail, EventCounts, EventShard, Failure, Finish, LogHeader, LogWriter, Row, Stamps};
use proptest::prelude::*;
use serde_json::json;

const NEVER: BatchLimits = BatchLimits { send_threshold: u32::MAX, max_age_ns: u64::MAX, max_bytes: usize::MAX };

fn frames(batch: &mut Batch) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    batch.flush(|frame, records| {
        assert_eq!(Frame::decode(frame).unwrap().count, records);
        frames.push(frame.clone());
    });
    frames
}

fn topics(frames: &[Vec<u8>]) -> Vec<EventType> {
    frames.iter().map(|frame| Frame::decode(frame).unwrap().kind).collect()
}

fn records(frame: &[u8]) -> Vec<Record<'_>> {
    Frame::decode(frame).unwrap().iter().map(Result::unwrap).collect()
}

fn failed(id: u64, done: u64) -> Row {
    let stamps = Stamps { done, ..Stamps::default() };
    Row { id, failure: Failure::Http, detail: Detail::Redirect, status: 301, stamps, ..Row::default() }
}

#[test]
fn a_flush_is_due_at_the_threshold_and_not_before() {
    for threshold in [1, 2, 10] {
        let mut batch = Batch::new(0, BatchLimits { send_threshold: threshold, ..NEVER });
        let due: Vec<bool> =
            (0..threshold + 1).map(|i| batch.mark(EventType::ALL[4 + i as usize % 4], u64::from(i), 5)).collect();
        let expected: Vec<bool> = (1..=threshold + 1).map(|n| n >= threshold).collect();
        assert_eq!(due, expected, "over all topics, at {threshold}");
        assert_eq!(batch.buffered(), threshold + 1);
    }
}

#[test]
fn a_flush_is_due_with_the_byte_that_reaches_the_bound() {
    let mut whole = Batch::new(0, NEVER);
    (0..3).for_each(|i| assert!(!whole.mark(EventType::RecvFirst, i, 5)));
    let bytes = whole.buffered_bytes();
    for (max_bytes, due) in [(bytes + 1, false), (bytes, true), (bytes - 1, true)] {
        let mut batch = Batch::new(0, BatchLimits { max_bytes, ..NEVER });
        (0..2).for_each(|i| assert!(!batch.mark(EventType::RecvFirst, i, 5)));
        assert_eq!(batch.mark(EventType::RecvFirst, 2, 5), due, "{max_bytes} of {bytes}");
    }
}

#[test]
fn a_flush_is_due_when_the_oldest_has_come_of_age() {
    let mut batch = Batch::new(0, BatchLimits { max_age_ns: 10, ..NEVER });
    assert!(!batch.is_old(u64::MAX), "nothing has no age");
    assert!(!batch.mark(EventType::SampleIssued, 0, 100));
    assert!(!batch.mark(EventType::RecvFirst, 0, 95), "an older stamp may come later");
    assert_eq!((batch.oldest_ns(), batch.leaves_ns()), (Some(95), Some(105)));
    assert!(!batch.is_old(104) && batch.is_old(105));
    assert!(batch.mark(EventType::SampleComplete, 0, 105));
    assert_eq!(frames(&mut batch).len(), 3);
    assert_eq!((batch.oldest_ns(), batch.buffered(), batch.buffered_bytes()), (None, 0, 0));
}

#[test]
fn an_event_of_the_session_is_due_at_once_and_leaves_last() {
    let mut batch = Batch::new(0, NEVER);
    assert!(!batch.mark(EventType::SampleComplete, 7, 1));
    assert!(batch.push(&Event { session: Some("s"), ..Event::new(EventType::SessionEnded, 2) }));
    assert!(!batch.mark(EventType::ErrorClient, 7, 3));
    assert!(!batch.mark(EventType::SampleIssued, 8, 4));
    let expected =
        [EventType::ErrorClient, EventType::SampleIssued, EventType::SampleComplete, EventType::SessionEnded];
    assert_eq!(topics(&frames(&mut batch)), expected);
}

#[test]
fn numbers_go_on_over_flushes_by_topic_and_by_source() {
    let mut batch = Batch::new(9, NEVER);
    let mut seen = HashMap::new();
    for round in 0..3u64 {
        (0..=round).for_each(|i| _ = batch.mark(EventType::SampleIssued, i, 5));
        batch.mark(EventType::SampleComplete, round, 5);
        for frame in frames(&mut batch) {
            let head = Frame::decode(&frame).unwrap();
            assert_eq!(head.source, 9);
            assert_eq!(head.topic_seq, seen.insert(head.kind, head.topic_seq + u64::from(head.count)).unwrap_or(0));
        }
    }
    assert_eq!((seen[&EventType::SampleIssued], seen[&EventType::SampleComplete]), (6, 3));
    batch.mark(EventType::RecvFirst, 0, 5);
    assert_eq!(records(&frames(&mut batch)[0])[0].seq, 9, "of nine records before");
}

/// All frames that came through a queue, in order.
fn through_a_queue(threshold: u32, requests: u64) -> Vec<Vec<u8>> {
    let (mut senders, queue) = event_queue(&[3]).unwrap();
    let publisher = Some(senders.remove(0));
    let limits = BatchLimits { send_threshold: threshold, ..NEVER };
    let mut emitter = Emitter::new(3, limits, true, Outlets { log: None, publisher });
    for id in 0..requests {
        emitter.issued(10 * id, id, 0, id);
        emitter.ended(&failed(id, 10 * id + 1));
    }
    emitter.flush();
    let frames = queue.take(usize::MAX);
    assert_eq!(queue.dropped(), 0);
    frames
}

#[test]
fn an_error_always_leaves_before_its_complete() {
    // At a threshold of 2 each flush falls between the two of some request.
    for (threshold, frames_of_errors) in [(1, 30), (2, 30), (1_000, 1)] {
        let mut errors = Vec::new();
        let all = through_a_queue(threshold, 30);
        for frame in &all {
            for record in records(frame) {
                match record.event.kind {
                    EventType::ErrorClient => errors.push(record.event.request),
                    EventType::SampleComplete => assert!(errors.contains(&record.event.request), "{record:?}"),
                    _ => {}
                }
            }
        }
        assert_eq!(errors.len(), 30);
        assert_eq!(topics(&all).into_iter().filter(|kind| *kind == EventType::ErrorClient).count(), frames_of_errors);
    }
}

#[test]
fn over_several_nodes_what_ends_says_at_which_and_what_went_to_none_says_none() {
    let told = |nodes: usize| {
        let (mut senders, queue) = event_queue(&[3]).unwrap();
        let outlets = Outlets { log: None, publisher: Some(senders.remove(0)) };
        let mut emitter = Emitter::new(3, NEVER, true, outlets).over(nodes);
        emitter.ended(&Row { node: Some(1), ..failed(1, 5) });
        emitter.ended(&Row { node: None, ..failed(2, 6) });
        emitter.flush();
        let frames = queue.take(100);
        let records = frames.iter().flat_map(|frame| records(frame));
        let open_and_end = |data: &[u8]| (data[0], data.ends_with(b"\xa4node\x01"));
        records.map(|record| open_and_end(record.event.data.unwrap())).collect::<Vec<_>>()
    };
    assert_eq!(told(2), [(0x85, true), (0x84, false), (0x86, true), (0x85, false)]);
    assert_eq!(told(1), [(0x84, false), (0x84, false), (0x85, false), (0x85, false)]);
}

/// Topic, ns, request, data, finish reason.
type Said<'a> = (&'static str, u64, u64, &'a [u8], Option<&'a str>);

#[test]
fn what_happens_to_a_request_stands_in_its_events() {
    let (mut senders, queue) = event_queue(&[3]).unwrap();
    let outlets = Outlets { log: None, publisher: Some(senders.remove(0)) };
    let mut emitter = Emitter::new(3, NEVER, true, outlets);
    emitter.issued(1, 70_000, 2, 5);
    emitter.read(2, 70_000, 2, true, 2, 7);
    emitter.read(3, 70_000, 2, false, 3, 0);
    let done = Stamps { sent: 1, last_token: 3, done: 4, ..Stamps::default() };
    let row = Row { id: 70_000, phase: 2, stamps: done, finish: Finish::Stop, tokens_out: Some(9), ..Row::default() };
    emitter.ended(&row);
    emitter.ended(&Row { phase: 1, finish: Finish::Unknown, ..failed(1, 5) });
    emitter.ended(&Row { failure: Failure::Cancelled, status: 0, ..failed(2, 6) });
    emitter.flush();
    let frames = queue.take(100);
    let told: Vec<_> = frames
        .iter()
        .flat_map(|frame| records(frame))
        .map(|record| record.event)
        .map(|e| (e.kind.topic(), e.ns, e.request.unwrap(), e.data.unwrap(), e.finish_reason))
        .collect();
    let phase_2: &[u8] = b"\x81\xa5phase\x02";
    let expected: [Said<'_>; 10] = [
        ("error.client", 5, 1, b"\x84\xa5phase\x01\xa5class\xa4http\xa6detail\xa8redirect\xa6status\xcd\x01\x2d", None),
        ("sample.issued", 1, 70_000, b"\x82\xa5phase\x02\xa6sample\x05", None),
        ("sample.recv_first", 2, 70_000, b"\x82\xa5phase\x02\xa6tokens\x07", None),
        ("sample.recv_non_first", 2, 70_000, phase_2, None),
        ("sample.recv_non_first", 3, 70_000, phase_2, None),
        ("sample.recv_non_first", 3, 70_000, phase_2, None),
        ("sample.recv_non_first", 3, 70_000, phase_2, None),
        (
            "sample.complete",
            4,
            70_000,
            b"\x85\xa5phase\x02\xa7outcome\xa2ok\xaatokens_out\x09\xa4sent\x01\xaalast_token\x03",
            Some("stop"),
        ),
        (
            "sample.complete",
            5,
            1,
            b"\x85\xa5phase\x01\xa7outcome\xa4http\xaatokens_out\xc0\xa4sent\xc0\xaalast_token\xc0",
            None,
        ),
        (
            "sample.complete",
            6,
            2,
            b"\x85\xa5phase\x00\xa7outcome\xa9cancelled\xaatokens_out\xc0\xa4sent\xc0\xaalast_token\xc0",
            None,
        ),
    ];
    assert_eq!(told, expected);
}

/// The frames of some reads; each chunk told by itself, or those of a read together.
fn of_reads(limits: BatchLimits, reads: &[u32], by_itself: bool) -> Vec<Vec<u8>> {
    let (mut emitter, queue) = publishing(limits);
    for (request, &chunks) in (0..).zip(reads) {
        if by_itself {
            (0..chunks).for_each(|_| emitter.read(request, request, 3, false, 1, 0));
        } else {
            emitter.read(request, request, 3, false, chunks, 0);
        }
    }
    emitter.flush();
    queue.take(usize::MAX)
}

proptest! {
    #[test]
    fn chunks_of_one_read_are_told_as_if_each_had_come_alone(
        reads in prop::collection::vec(1u32..400, 1..20),
        send_threshold in prop_oneof![1u32..40, Just(u32::MAX)],
        max_bytes in 40usize..20_000,
    ) {
        let limits = BatchLimits { send_threshold, max_bytes, ..NEVER };
        prop_assert_eq!(of_reads(limits, &reads, false), of_reads(limits, &reads, true));
    }
}

#[test]
fn numbers_of_any_length_go_on_within_a_read() {
    let reads = [100, 100, 70_000];
    let limits = BatchLimits { send_threshold: 1_000, ..NEVER };
    let frames = of_reads(limits, &reads, false);
    assert_eq!(frames, of_reads(limits, &reads, true));
    let numbers: Vec<u64> = frames.iter().flat_map(|frame| records(frame)).map(|record| record.seq).collect();
    assert_eq!(numbers, (0..70_200).collect::<Vec<_>>());
}

#[test]
fn without_chunks_only_the_first_one_is_told() {
    let (mut senders, queue) = event_queue(&[0]).unwrap();
    let outlets = Outlets { log: None, publisher: Some(senders.remove(0)) };
    let mut emitter = Emitter::new(0, NEVER, false, outlets);
    emitter.read(2, 1, 0, true, 5, 0);
    emitter.read(3, 1, 0, false, 5, 0);
    emitter.flush();
    assert_eq!(topics(&queue.take(9)), [EventType::RecvFirst]);
}

#[test]
fn a_text_of_any_length_and_script_fits_its_event() {
    let (mut senders, queue) = event_queue(&[]).unwrap();
    let outlets = Outlets { log: None, publisher: senders.pop() };
    let mut emitter = Emitter::new(SESSION_SOURCE, NEVER, false, outlets);
    let name = "ü".repeat(5_000);
    emitter.session(EventType::StartPerformanceTracking, 1, "run", SessionData::Phase(3, &name));
    let frames = queue.take(9);
    let record = records(&frames[0])[0];
    assert!(is_one_value(record.event.data.unwrap()) && record.event.data.unwrap().len() < 1_100);
    assert_eq!((record.event.session, record.source), (Some("run"), SESSION_SOURCE));
}

// --- the queue ---

fn frame_of(source: u16, kind: EventType, request: u64) -> Vec<u8> {
    let mut batch = Batch::new(source, NEVER);
    batch.mark(kind, request, 1);
    frames(&mut batch).remove(0)
}

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

/// An emitter that publishes to a queue.
fn publishing(limits: BatchLimits) -> (Emitter, EventQueue) {
    let (mut senders, queue) = event_queue(&[0]).unwrap();
    (Emitter::new(0, limits, true, Outlets { log: None, publisher: Some(senders.remove(0)) }), queue)
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

// --- frames and records ---

fn any_kind() -> impl Strategy<Value = EventType> {
    (0..EventType::ALL.len()).prop_map(|i| EventType::ALL[i])
}

#[derive(Clone, Debug)]
struct Told {
    kind: EventType,
    ns: u64,
    request: Option<u64>,
    texts: [Option<String>; 3],
    turn: Option<u64>,
    data: Option<Vec<u8>>,
}

fn any_told() -> impl Strategy<Value = Told> {
    let number = || prop_oneof![Just(None), (0u64..70_000).prop_map(Some), any::<u64>().prop_map(Some)];
    let text = || prop::option::of(prop_oneof!["[a-zü]{0,40}", "x{200,400}", Just("y".repeat(70_000))]);
    let data = prop_oneof![
        Just(None),
        Just(Some(vec![0x82, 0xa1, b'a', 0x01, 0xa1, b'b', 0x92, 0xc3, 0xcb, 0, 0, 0, 0, 0, 0, 0, 0])),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(|bytes| {
            let mut value = vec![0xc5, (bytes.len() >> 8) as u8, bytes.len() as u8];
            value.extend(bytes);
            Some(value)
        }),
    ];
    (any_kind(), any::<u64>(), number(), [text(), text(), text()], number(), data)
        .prop_map(|(kind, ns, request, texts, turn, data)| Told { kind, ns, request, texts, turn, data })
}

proptest! {
    #[test]
    fn every_event_comes_back_as_it_was_told(told in prop::collection::vec(any_told(), 0..40), source: u16) {
        let mut batch = Batch::new(source, NEVER);
        for event in &told {
            let [session, conversation, finish_reason] = event.texts.each_ref().map(|text| text.as_deref());
            let Told { kind, ns, request, turn, .. } = *event;
            let data = event.data.as_deref();
            prop_assert!(data.is_none_or(is_one_value));
            batch.push(&Event { kind, ns, request, session, conversation, turn, data, finish_reason });
        }
        let frames = frames(&mut batch);
        let mut back: Vec<Record<'_>> = frames.iter().flat_map(|frame| records(frame)).collect();
        back.sort_by_key(|record| record.seq);
        prop_assert_eq!(back.len(), told.len());
        for (seq, (record, event)) in back.iter().zip(&told).enumerate() {
            prop_assert_eq!((record.seq, record.source), (seq as u64, source));
            let back = record.event;
            let texts = [back.session, back.conversation, back.finish_reason].map(|t| t.map(str::to_owned));
            prop_assert_eq!((back.kind, back.ns, back.request), (event.kind, event.ns, event.request));
            prop_assert_eq!((&texts, back.turn), (&event.texts, event.turn));
            prop_assert_eq!(back.data.map(<[u8]>::to_vec), event.data.clone());
        }
    }

    #[test]
    fn no_bytes_make_a_frame_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0usize..200) {
        let whole = [frame_of(0, EventType::RecvFirst, 5), bytes].concat();
        let cut = &whole[cut.min(whole.len())..];
        for frame in [&whole, cut] {
            if let Ok(frame) = Frame::decode(frame) {
                prop_assert!(frame.iter().filter(Result::is_ok).count() as u64 <= u64::from(frame.count));
            }
        }
        is_one_value(&whole[FRAME_HEAD..]);
    }
}

#[test]
fn a_hostile_frame_is_refused_with_the_reason() {
    let good = frame_of(6, EventType::SampleIssued, 5);
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let fault = |bytes: &[u8]| match Frame::decode(bytes) {
        Ok(frame) => frame.iter().find_map(Result::err),
        Err(fault) => Some(fault),
    };
    assert_eq!(fault(&good), None);
    assert_eq!(fault(&good[..FRAME_HEAD - 1]), Some(FrameFault::Head(FRAME_HEAD - 1)));
    assert_eq!(fault(&changed(0, b'S')), Some(FrameFault::Topic));
    assert_eq!(fault(&changed(0, 0xff)), Some(FrameFault::Topic));
    assert_eq!(fault(&changed(TOPIC_BYTES - 1, b'x')), Some(FrameFault::Topic));
    assert_eq!(fault(&changed(TOPIC_BYTES, 2)), Some(FrameFault::Version(2)));
    assert_eq!(fault(&changed(TOPIC_BYTES + 2, 7)), Some(FrameFault::Field("source, beside its frame's,")));
    assert_eq!(fault(&changed(TOPIC_BYTES + 7, 0xff)), Some(FrameFault::Short), "four billion records");
    assert_eq!(fault(&changed(TOPIC_BYTES + 4, 0)), Some(FrameFault::Rest(good.len() - FRAME_HEAD)));
    assert_eq!(fault(&changed(FRAME_HEAD, 0x99)), Some(FrameFault::Field("array of ten")));
    assert_eq!(fault(&changed(FRAME_HEAD + 1, 17)), Some(FrameFault::Field("type, beside its topic,")));
    assert_eq!(fault(&changed(FRAME_HEAD + 1, 99)), Some(FrameFault::Field("type")));
    assert_eq!(fault(&[&good[..], &[0]].concat()), Some(FrameFault::Rest(1)));
    for cut in FRAME_HEAD..good.len() {
        assert_eq!(fault(&good[..cut]), Some(FrameFault::Short), "cut at {cut}");
    }
}

#[test]
fn one_value_is_told_from_none_two_and_endless_ones() {
    let deep = [vec![0x91; 100_000], vec![0xc0]].concat();
    assert!(is_one_value(&deep), "however deep");
    assert!(!is_one_value(&deep[..100_000]));
    assert!(!is_one_value(b"") && !is_one_value(b"\x01\x02") && !is_one_value(b"\xc1"));
    assert!(!is_one_value(b"\xdd\xff\xff\xff\xff") && !is_one_value(b"\xdf\xff\xff\xff\xff\xff\xff\xff\xff"));
    assert!(is_one_value(b"\xc7\x02\x05ab") && is_one_value(b"\xd8\x050123456789abcdef"));
}

// --- the log ---

/// Write an event log of `rounds` flushes of three requests each; how many bytes it has after each of them.
fn write_log(dir: &Path, rounds: u64) -> Vec<u64> {
    let anchor = Anchor { mono_ns: 5, wall_ns: 7 };
    let header = LogHeader { anchor, session: "7f3a".to_owned(), meta: json!({}) };
    let log = LogWriter::create(dir, &header, false).unwrap();
    log.keep_events().unwrap();
    let mut emitter = Emitter::new(2, NEVER, true, Outlets { log: Some(log.event_shard(2)), publisher: None });
    let mut ends = Vec::new();
    for round in 0..rounds {
        for id in 3 * round..3 * round + 3 {
            emitter.issued(id, id, 0, id);
            emitter.ended(&failed(id, id));
        }
        emitter.flush();
        assert_eq!(log.count_events().unwrap().logged, 9 * (round + 1));
        ends.push(fs::metadata(dir.join("events.log")).unwrap().len());
    }
    drop(emitter);
    let stats = log.finish().unwrap();
    assert_eq!(stats.event_bytes, ends.last().copied().unwrap_or(256));
    ends
}

fn read_log(dir: &Path, wanted: &[EventType]) -> (Vec<(EventType, u64)>, u64) {
    let mut reader = EventReader::open(dir, wanted, 0).unwrap();
    let mut found = Vec::new();
    while let Some(frame) = reader.next_frame().unwrap() {
        found.extend(records(&frame).iter().map(|r| (r.event.kind, r.event.request.unwrap())));
    }
    (found, reader.damaged())
}

#[test]
fn an_event_log_cut_at_any_byte_gives_all_that_was_whole_before() {
    let dir = tempfile::tempdir().unwrap();
    let ends = write_log(dir.path(), 2);
    let path = dir.path().join("events.log");
    let whole = fs::read(&path).unwrap();
    for cut in (256..=whole.len()).rev() {
        fs::write(&path, &whole[..cut]).unwrap();
        let kept = ends.iter().filter(|&&end| end <= cut as u64).count();
        assert_eq!(read_log(dir.path(), &[]), (read_of(kept), 0), "cut at {cut}");
    }
}

/// The records of the first `rounds` flushes of `write_log`, as they stand in the file.
fn read_of(rounds: usize) -> Vec<(EventType, u64)> {
    let round = |round: u64| {
        [EventType::ErrorClient, EventType::SampleIssued, EventType::SampleComplete]
            .into_iter()
            .flat_map(move |kind| (3 * round..3 * round + 3).map(move |id| (kind, id)))
    };
    (0..rounds as u64).flat_map(round).collect()
}

#[test]
fn a_flipped_bit_costs_its_block_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let ends = write_log(dir.path(), 2);
    let path = dir.path().join("events.log");
    let whole = fs::read(&path).unwrap();
    for at in 256..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        fs::write(&path, &flipped).unwrap();
        let hit = ends.iter().position(|&end| (at as u64) < end).unwrap() as u64;
        let (found, damaged) = read_log(dir.path(), &[]);
        let expected: Vec<_> = read_of(2).into_iter().filter(|(_, id)| id / 3 != hit).collect();
        assert_eq!(found, expected, "byte {at}");
        // A damaged head in the last block looks like an unfinished end.
        assert!(damaged > 0 || hit == 1, "byte {at}");
    }
}

#[test]
fn a_reader_goes_on_where_another_one_ended() {
    let dir = tempfile::tempdir().unwrap();
    let ends = write_log(dir.path(), 3);
    let mut first = EventReader::open(dir.path(), &[EventType::SampleIssued], 0).unwrap();
    assert_eq!(first.offset(), 0);
    first.next_frame().unwrap().unwrap();
    assert_eq!(first.offset(), ends[0]);
    let mut next = EventReader::open(dir.path(), &[], first.offset()).unwrap();
    let frame = next.next_frame().unwrap().unwrap();
    assert_eq!(records(&frame)[0].event.request, Some(3));
    assert_eq!(next.offset(), ends[0], "two more frames of this block are to come");
    while next.next_frame().unwrap().is_some() {}
    assert_eq!((next.offset(), next.damaged()), (ends[2], 0));
    let mut end = EventReader::open(dir.path(), &[], ends[2]).unwrap();
    assert_eq!((end.next_frame().unwrap(), end.offset()), (None, ends[2]));
}

#[test]
fn only_the_topics_asked_for_are_read() {
    let dir = tempfile::tempdir().unwrap();
    write_log(dir.path(), 2);
    let (found, _) = read_log(dir.path(), &[EventType::ErrorClient, EventType::SampleComplete]);
    assert_eq!(found.len(), 12);
    assert!(found.iter().all(|(kind, _)| *kind != EventType::SampleIssued));
}

#[test]
fn a_full_flush_of_the_longest_events_fits_a_block() {
    let dir = tempfile::tempdir().unwrap();
    let header = LogHeader { anchor: Anchor::now(), session: "7f3a".to_owned(), meta: json!({}) };
    let log = LogWriter::create(dir.path(), &header, false).unwrap();
    log.keep_events().unwrap();
    let outlets = Outlets { log: Some(log.event_shard(0)), publisher: None };
    let mut emitter = Emitter::new(0, NEVER, true, outlets);
    let name = "n".repeat(2_000);
    (0..5_000).for_each(|i| emitter.issued(u64::MAX, u64::MAX, u16::MAX, u64::MAX - i));
    emitter.session(EventType::StartPerformanceTracking, u64::MAX, &"s".repeat(2_000), SessionData::Phase(9, &name));
    drop(emitter);
    assert_eq!(log.count_events().unwrap(), EventCounts { logged: 5_001, missing: 0, error: None });
    log.finish().unwrap();
}

#[test]
fn full_blocks_are_handed_over_together_or_when_they_are_old() {
    let dir = tempfile::tempdir().unwrap();
    let header = LogHeader { anchor: Anchor::now(), session: "7f3a".to_owned(), meta: json!({}) };
    let log = LogWriter::create(dir.path(), &header, false).unwrap();
    log.keep_events().unwrap();
    let mut shard = log.event_shard(0);
    let logged = || log.count_events().unwrap().logged;
    // Two of these don't fit one block.
    let text = "x".repeat(40 << 10);
    let keep = |shard: &mut EventShard, request: u64| {
        let mut batch = Batch::new(0, NEVER);
        let event = Event::new(EventType::SampleIssued, 1);
        batch.push(&Event { request: Some(request), session: Some(&text), ..event });
        shard.frame(&frames(&mut batch)[0], 1);
    };
    (0..7).for_each(|request| keep(&mut shard, request));
    shard.flush_if_due(0);
    assert_eq!(logged(), 0, "six are full, with less than 256 KiB");
    keep(&mut shard, 7);
    assert_eq!(logged(), 7);
    shard.flush_if_due(0);
    assert_eq!(logged(), 7, "the last is young");
    shard.flush_if_due(u64::MAX);
    assert_eq!(log.count_events().unwrap(), EventCounts { logged: 8, missing: 0, error: None });
    log.finish().unwrap();
    let (found, damaged) = read_log(dir.path(), &[]);
    assert_eq!(found.iter().map(|&(_, request)| request).collect::<Vec<_>>(), (0..8).collect::<Vec<_>>());
    assert_eq!(damaged, 0);
}

#[test]
fn events_without_a_log_to_go_to_are_counted_as_missing() {
    let dir = tempfile::tempdir().unwrap();
    let header = LogHeader { anchor: Anchor::now(), session: "7f3a".to_owned(), meta: json!({}) };
    let log = LogWriter::create(dir.path(), &header, false).unwrap();
    let mut shard = log.event_shard(0);
    shard.frame(&frame_of(0, EventType::SampleIssued, 1), 1);
    shard.flush();
    let counts = log.count_events().unwrap();
    assert_eq!((counts.logged, counts.missing), (0, 1), "no events.log was asked for");
    log.finish().unwrap();
}
