//! Faults of the body: its lines, its JSON, its events, and where usage and end are.

use super::super::answer::End;
use super::super::config::Usage;
use super::super::documents;
use super::super::draft::{Draft, Framing, Item, Kind, Payload, Point};
use super::super::json::put;
use super::{Fault, fault, plan};

/// A line of this many bytes.
const LONG: u64 = 100 << 20;
/// What long lines consist of.
const PATTERN: u64 = 64 << 10;

pub(super) const FAULTS: &[Fault] = &[
    // Lines.
    fault("crlf", "lines of the stream end with CR LF", |d| d.lines.ends = &["\r\n"]),
    fault("cr", "lines of the stream end with CR alone", |d| d.lines.ends = &["\r"]),
    fault("mixed_newlines", "lines end with LF, CR and CR LF in turn", |d| d.lines.ends = &["\n", "\r", "\r\n"]),
    fault("crlf_split", "lines end with CR LF, and writes end between the CR and the LF", |d| {
        d.lines.ends = &["\r\n"];
        d.split = Some(|bytes| memchr::memmem::find(bytes, b"}\r\n\r\n").map(|at| at + 2));
    }),
    fault("bom", "the body begins with a byte order mark", |d| d.prefix = b"\xef\xbb\xbf".to_vec()),
    fault("multi_line_data", "an event's JSON is spread over several data lines", |d| d.lines.spread = true),
    fault("no_space", "no space after `data:`", |d| d.lines.field = "data:"),
    fault("sse_fields", "event, id, retry and an unknown field before the data", |d| {
        d.lines.before = &["event: message", "id: 7", "retry: 3000", "unknown: x", "nocolon"];
    }),
    fault("comments", "a comment line before each event", |d| {
        d.insert_before(|_| true, |_, _| Payload::Raw(b": keep-alive\n\n".to_vec()));
    }),
    fault("pings", "a ping event before each event", |d| {
        d.insert_before(|_| true, |_, _| Payload::Raw(b"event: ping\ndata: {\"type\":\"ping\"}\n\n".to_vec()));
    }),
    fault("empty_data", "events with empty data between the others", |d| {
        d.insert_before(|_| true, |_, _| Payload::Raw(b"data:\n\ndata: \n\ndata\n\n".to_vec()));
    }),
    fault("one_byte_writes", "each byte in a write of its own", |d| d.grain = Some((1, d.pause.unwrap_or(0)))),
    fault("one_write", "the whole body in one write", |d| {
        let due = d.items.last().map_or(d.start, |item| item.due);
        d.items.iter_mut().for_each(|item| item.due = due);
        d.joined = true;
    }),
    fault("split_utf8", "writes end within a character of several bytes", |d| {
        d.each_json(|json| into_text(json, "\u{65e5}".as_bytes()));
        d.split = Some(|bytes| bytes.iter().position(|b| *b >= 0xc0).map(|at| at + 1));
    }),
    fault("half_line_eof", "the body ends, in order, in the middle of an event's line", |d| {
        let Some(middle) = d.middle() else { return };
        d.items.truncate(middle + 1);
        let Some(item) = d.items.last_mut() else { return };
        if let Payload::Data(json) = &item.payload {
            let mut half = b"data: ".to_vec();
            half.extend_from_slice(&json[..json.len() / 2]);
            (item.payload, item.tokens) = (Payload::Raw(half), 0);
        } else if let Payload::Raw(body) = &mut item.payload {
            body.truncate(body.len() / 2);
        }
    }),
    fault("long_line", "one event's line is 100 MiB long", |d| long(d, LONG / PATTERN, true)),
    fault("endless_line", "one event's line never ends", |d| long(d, u64::MAX, true)),
    fault("endless_stream", "a token's event is repeated without end", |d| long(d, u64::MAX, false)),
    // JSON.
    fault("invalid_utf8", "text with bytes that are no UTF-8", |d| {
        d.each_json(|json| into_text(json, b"\xff\xfe\xc3"))
    }),
    fault("lone_surrogate", "text with half of a surrogate pair", |d| d.each_json(|json| into_text(json, b"\\ud83d"))),
    fault("nul", "text with an escaped NUL", |d| d.each_json(|json| into_text(json, b"\\u0000"))),
    fault("nul_raw", "text with a raw NUL byte", |d| d.each_json(|json| into_text(json, b"\0"))),
    fault("control_chars", "text with raw control characters and escape sequences", |d| {
        d.each_json(|json| into_text(json, b"\\u001b[31m\x01\x7f"));
    }),
    fault("deep_json", "a field nested 100,000 deep", |d| {
        d.each_json(|json| {
            let mut field = b"\"deep\":".to_vec();
            field.extend(std::iter::repeat_n(b'[', 100_000));
            field.extend(std::iter::repeat_n(b']', 100_000));
            field.push(b',');
            json.splice(1..1, field);
        });
    }),
    fault("duplicate_keys", "keys that come twice, the right one last", |d| {
        d.each_json(|json| {
            let decoy = b"\"id\":\"decoy\",\"object\":\"decoy\",\"choices\":[],\"error\":null,";
            json.splice(1..1, decoy.iter().copied());
        });
    }),
    fault("reordered_keys", "`choices` before everything else, and `index` last in it", |d| d.each_json(reorder)),
    fault("huge_int", "an integer of 400 digits", |d| {
        d.each_json(|json| replace(json, b"\"created\":", format!("\"created\":{}", "9".repeat(400)).as_bytes()));
    }),
    fault("nan", "NaN and Infinity where JSON has no number", |d| {
        d.each_json(|json| replace(json, b"\"created\":", b"\"score\":NaN,\"top\":-Infinity,\"created\":"));
    }),
    fault("broken_json", "the JSON of one event, or of the answer, is cut in half", |d| {
        let Some(middle) = d.middle() else { return };
        let item = &mut d.items[middle];
        item.tokens = 0;
        if let Payload::Data(json) | Payload::Raw(json) = &mut item.payload {
            json.truncate(json.len() / 2);
        }
    }),
    fault("not_json", "the data of one event, or the answer, is plain text", |d| {
        let Some(middle) = d.middle() else { return };
        let item = &mut d.items[middle];
        item.tokens = 0;
        if let Payload::Data(json) | Payload::Raw(json) = &mut item.payload {
            *json = b"upstream connect error".to_vec();
        }
    }),
    // Events.
    fault("error_event", "status 200, and half-way an error event that ends the stream", |d| error_event(d, false)),
    fault("error_event_done", "status 200, and half-way an error event followed by [DONE]", |d| error_event(d, true)),
    fault("error_event_named", "half-way an `event: error` whose data is an error", |d| {
        error_event(d, false);
        if let Some(Item { payload, .. }) = d.items.last_mut()
            && let Payload::Data(json) = payload
        {
            let mut raw = b"event: error\ndata: ".to_vec();
            raw.append(json);
            raw.extend_from_slice(b"\n\n");
            *payload = Payload::Raw(raw);
        }
    }),
    fault("no_done", "the stream ends without [DONE]", |d| d.items.retain(|item| item.kind != Kind::Done)),
    fault("two_done", "[DONE] comes twice", |d| {
        d.insert_before(|kind| kind == Kind::Done, |_, _| Payload::Data(b"[DONE]".to_vec()));
    }),
    fault("bytes_after_done", "an event and a half line after [DONE]", |d| {
        let late = b"data: {\"late\":true}\n\ndata: {\"la".to_vec();
        if let Some(due) = d.items.last().map(|item| item.due) {
            d.items.push(Item { due, kind: Kind::Extra, payload: Payload::Raw(late), tokens: 0, joins: true });
        }
    }),
    fault("open_after_done", "after [DONE] nothing ends: no last chunk, and the connection stays open", |d| {
        d.chunks.no_last = true;
        if d.framing == Framing::Length {
            d.length = Some(|length| (length + 1).to_string());
        }
        d.end = End::Hold;
    }),
    fault("role_only", "the role, the finish reason, and no token", |d| {
        d.items.retain(|item| item.kind != Kind::Token);
        if d.items.first().is_some_and(|item| item.kind == Kind::Whole) {
            d.each_json(blank);
            d.items.iter_mut().for_each(|item| item.tokens = 0);
        }
    }),
    fault("content_null", "events with `content:null` between the tokens", |d| between(d, b"\"content\":null")),
    fault("empty_delta", "events with an empty delta between the tokens", |d| between(d, b"")),
    fault("empty_content", "events with `content:\"\"` between the tokens", |d| between(d, b"\"content\":\"\"")),
    fault("no_choices", "events without `choices` between the tokens", |d| {
        d.insert_before(
            |kind| kind == Kind::Token,
            |_, _| Payload::Data(b"{\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"created\":1}".to_vec()),
        );
        no_choices(d);
    }),
    fault("empty_choices", "events with `choices:[]` and no usage between the tokens", |d| {
        d.insert_before(
            |kind| kind == Kind::Token,
            |_, _| Payload::Data(b"{\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"choices\":[]}".to_vec()),
        );
        no_choices(d);
    }),
    fault("no_finish_reason", "no event, and no answer, says why it ended", |d| {
        d.items.retain(|item| item.kind != Kind::Finish);
        d.each_json(|json| {
            for reason in ["stop", "length", "tool_calls"] {
                replace(json, format!("\"finish_reason\":\"{reason}\"").as_bytes(), b"\"finish_reason\":null");
            }
        });
    }),
    fault("ndjson", "one JSON document a line where an event stream was expected", |d| {
        d.lines.ndjson = true;
        d.items.retain(|item| item.kind != Kind::Done);
        d.set_header("content-type", "application/x-ndjson");
    }),
    fault("json_instead", "a whole JSON answer where a stream was asked for", |d| {
        let due = d.items.last().map_or(d.start, |item| item.due);
        d.replace(200, "application/json", Vec::new());
        d.whole_answer(due);
    }),
    fault("empty_200", "status 200 and an empty body", |d| d.items.clear()),
    // Usage, and what tokens are.
    plan("usage_own", "usage, asked for or not, in an event of its own", |p| p.usage = Usage::Own),
    plan("usage_delta", "usage, asked for or not, beside an empty delta", |p| p.usage = Usage::Delta),
    plan("usage_finish", "usage, asked for or not, on the event with the finish reason", |p| p.usage = Usage::Finish),
    plan("usage_continuous", "usage so far, asked for or not, on every event", |p| p.continuous = true),
    fault("usage_absent", "no usage, though asked for", |d| {
        d.items.retain(|item| item.kind != Kind::Usage);
        for item in &mut d.items {
            if let Payload::Data(json) | Payload::Raw(json) = &mut item.payload {
                replace(json, b"\"usage\":{", b"\"unused\":{");
            }
        }
    }),
    fault("usage_wrong", "usage that contradicts the events' count", |d| {
        for item in &mut d.items {
            if let Payload::Data(json) | Payload::Raw(json) = &mut item.payload {
                replace(json, b"\"completion_tokens\":", b"\"completion_tokens\":9");
            }
        }
    }),
    plan("reasoning", "the first half of the tokens is reasoning", |p| p.reasoning = p.tokens / 2),
    plan("tool_calls", "the tokens are a tool call's arguments", |p| (p.tool, p.reason) = (true, "tool_calls")),
    plan("n_interleaved", "three choices, interleaved, though one was asked for", |p| p.n = 3),
    fault("stop_midstream", "half-way the connection ends in order, the answer does not", |d| {
        d.cut = Some((Point::Middle, End::Close));
    }),
];

/// Put bytes at the start of the text of an event or an answer.
fn into_text(json: &mut Vec<u8>, bytes: &[u8]) {
    if let Some(at) = text(json) {
        json.splice(at..at, bytes.iter().copied());
    }
}

/// Where the text of an event or an answer starts.
fn text(json: &[u8]) -> Option<usize> {
    const FIELDS: [&[u8]; 3] = [b"\"content\":\"", b"\"text\":\"", b"\"arguments\":\""];
    FIELDS.iter().find_map(|field| memchr::memmem::find(json, field).map(|at| at + field.len()))
}

/// Take the text of a whole answer away.
fn blank(json: &mut Vec<u8>) {
    let Some(at) = text(json) else { return };
    let mut escaped = false;
    let end = json[at..].iter().position(|b| {
        let ends = *b == b'"' && !escaped;
        escaped = *b == b'\\' && !escaped;
        ends
    });
    json.drain(at..at + end.unwrap_or(0));
}

/// Replace the first occurrence.
fn replace(json: &mut Vec<u8>, from: &[u8], to: &[u8]) {
    if let Some(at) = memchr::memmem::find(json, from) {
        json.splice(at..at + from.len(), to.iter().copied());
    }
}

/// `{"id":…,"choices":[{"index":0,…}]}` becomes `{"choices":[{…,"index":0}],"id":…}`.
fn reorder(json: &mut Vec<u8>) {
    let Some(choices) = memchr::memmem::find(json, b",\"choices\":[{\"index\":0,") else { return };
    let Some(end) = memchr::memmem::rfind(json, b"}]").filter(|end| *end > choices) else { return };
    let head = json[1..choices].to_vec();
    let inner = json[choices + b",\"choices\":[{\"index\":0,".len()..end].to_vec();
    let mut out = b"{\"choices\":[{".to_vec();
    out.extend_from_slice(&inner);
    put(&mut out, ",\"index\":0}],");
    out.extend_from_slice(&head);
    out.extend_from_slice(&json[end + 2..]);
    *json = out;
}

/// Events with this delta between the tokens.
fn between(d: &mut Draft, delta: &[u8]) {
    let json = [
        b"{\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"created\":1,\"choices\":[{\"index\":0,\"delta\":{",
        delta,
        b"},\"finish_reason\":null}]}",
    ]
    .concat();
    d.insert_before(|kind| kind == Kind::Token, |_, _| Payload::Data(json.clone()));
    if d.items.first().is_some_and(|item| item.kind == Kind::Whole) {
        d.each_json(|json| {
            blank(json);
            if delta.ends_with(b"null") {
                replace(json, b"\"content\":\"\"", b"\"content\":null");
            } else if delta.is_empty() {
                replace(json, b",\"content\":\"\"", b"");
            }
        });
    }
}

/// For a whole answer: one without choices.
fn no_choices(d: &mut Draft) {
    for item in d.items.iter_mut().filter(|item| item.kind == Kind::Whole) {
        item.payload = Payload::Raw(b"{\"id\":\"x\",\"object\":\"chat.completion\",\"created\":1}".to_vec());
        item.tokens = 0;
    }
}

/// The rest of the stream is an error.
fn error_event(d: &mut Draft, done: bool) {
    let mut json = Vec::new();
    documents::error(&mut json, d.flavour(), 500, None, "The engine died");
    if !d.streamed {
        return d.replace(200, "application/json", json);
    }
    let Some(middle) = d.middle() else { return };
    let due = d.items[middle].due;
    d.items.truncate(middle + 1);
    d.items[middle].joins = true;
    let mut push = |data: Vec<u8>| {
        d.items.push(Item { due, kind: Kind::Extra, payload: Payload::Data(data), tokens: 0, joins: true });
    };
    // The error comes last unless [DONE] follows it.
    push(json);
    if done {
        push(b"[DONE]".to_vec());
    }
}

/// Stretch the text of the middle event; or repeat the whole event.
fn long(d: &mut Draft, times: u64, line: bool) {
    let Some(middle) = d.middle() else { return };
    let item = &mut d.items[middle];
    let json = match &item.payload {
        Payload::Data(json) => [b"data: ", &json[..], b"\n\n"].concat(),
        Payload::Raw(json) => json.clone(),
        Payload::Long { .. } => return,
    };
    let Some(at) = text(&json) else { return };
    item.payload = if line || item.kind == Kind::Whole {
        let pattern = vec![b'a'; PATTERN as usize];
        Payload::Long { open: json[..at].to_vec(), pattern, times, close: json[at..].to_vec() }
    } else {
        Payload::Long { open: json.clone(), pattern: json, times, close: Vec::new() }
    };
    if times == u64::MAX {
        d.items.truncate(middle + 1);
    }
}
