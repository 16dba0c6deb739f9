//! The event decoder against the standard's own words, on the whole stream at once.
#![no_main]

use libfuzzer_sys::fuzz_target;
use loadgen::endpoint::fuzzing::{Heard, decode};

/// WHATWG HTML, section 9.2.6, line by line: slow and plain.
fn model(stream: &[u8]) -> Vec<Heard> {
    let stream = stream.strip_prefix(b"\xef\xbb\xbf").unwrap_or(stream);
    let (mut lines, mut line, mut i) = (Vec::new(), Vec::new(), 0);
    while i < stream.len() {
        match stream[i] {
            b'\r' | b'\n' => {
                if stream[i] == b'\r' && stream.get(i + 1) == Some(&b'\n') {
                    i += 1;
                }
                lines.push(std::mem::take(&mut line));
            }
            byte => line.push(byte),
        }
        i += 1;
    }
    let (mut heard, mut name, mut data) = (Vec::new(), Vec::new(), None::<Vec<u8>>);
    for line in lines {
        let colon = line.iter().position(|&b| b == b':');
        let field = &line[..colon.unwrap_or(line.len())];
        let value = colon.map_or(&[][..], |c| &line[c + 1..]);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            _ if line.is_empty() => {
                heard.extend(data.take().map(|data| Heard::Event { name: name.clone(), data }));
                name.clear();
            }
            b"data" => match &mut data {
                None => data = Some(value.to_vec()),
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
            },
            b"event" => name = value[..value.len().min(64)].to_vec(),
            b"" | b"id" | b"retry" => {}
            _ => heard.push(Heard::Stray(line)),
        }
    }
    heard
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&size, stream)) = bytes.split_first() else { return };
    let wanted = model(stream);
    assert_eq!(decode(std::iter::once(stream)), wanted);
    assert_eq!(decode(stream.chunks(usize::from(size) + 1)), wanted);
    assert_eq!(decode(stream.chunks(1)), wanted);
});
