//! Events as a whole: what is recorded leaves in order and in time, and is read back from wherever it went.

#![allow(clippy::unwrap_used)]

mod event_log;
mod event_queue;

use std::collections::HashMap;

use loadgen::event::{
    Batch, BatchLimits, Emitter, Event, EventQueue, EventType, FRAME_HEAD, Frame, FrameFault, Outlets, Record,
    SESSION_SOURCE, SessionData, TOPIC_BYTES, event_queue, is_one_value,
};
use loadgen::record::{Detail, Failure, Finish, Row, Stamps};
use proptest::prelude::*;

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

fn frame_of(source: u16, kind: EventType, request: u64) -> Vec<u8> {
    let mut batch = Batch::new(source, NEVER);
    batch.mark(kind, request, 1);
    frames(&mut batch).remove(0)
}

/// An emitter that publishes to a queue.
fn publishing(limits: BatchLimits) -> (Emitter, EventQueue) {
    let (mut senders, queue) = event_queue(&[0]).unwrap();
    (Emitter::new(0, limits, true, Outlets { log: None, publisher: Some(senders.remove(0)) }), queue)
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
    assert_eq!(batch.oldest_ns(), Some(95));
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
