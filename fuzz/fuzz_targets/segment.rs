//! Attaching to a segment of live metrics: no bytes make it panic or hang, whatever they claim of themselves.
#![no_main]

use std::fs::File;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use loadgen::series::{Bounds, Detail, Kind, Reader, Segment, Spec};

/// A good segment, and its bytes: what is fuzzed are changes to them, so that some come past the first checks.
fn good() -> &'static (PathBuf, File, Vec<u8>) {
    static GOOD: OnceLock<(PathBuf, File, Vec<u8>)> = OnceLock::new();
    GOOD.get_or_init(|| {
        let dir = std::env::temp_dir().join(format!("loadgen-fuzz-{}", std::process::id()));
        let segment = Segment::create("fuzz", &[dir.clone()], 0).unwrap();
        let kind = Kind::Series(Bounds::new(1_000, 1_000_000).unwrap());
        let spec = |name: &str, kind| Spec {
            name: name.into(),
            unit: "ns".into(),
            help: String::new(),
            kind,
            phase: Some(0),
            shards: 2,
        };
        let entries = segment.register(&[spec("a", kind), spec("b", Kind::Counter)]).unwrap();
        entries[0].series()[1].record(5_000);
        let bytes = std::fs::read(segment.path().unwrap()).unwrap();
        let path = dir.join("fuzzed.series");
        std::fs::write(&path, &bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        (path, file, bytes)
    })
}

/// The input is a list of changes: a word's number (2 bytes) and its new value (8 bytes); what is left over cuts the file.
fuzz_target!(|input: &[u8]| {
    let (path, file, bytes) = good();
    let changes = input.chunks_exact(10);
    let cut = changes.remainder().iter().fold(0, |n, b| n * 256 + usize::from(*b));
    let kept = bytes.len() - cut % bytes.len();
    let words =
        changes.map(|change| (usize::from(u16::from_le_bytes([change[0], change[1]])) * 8 % bytes.len(), change));
    for (at, change) in words.clone() {
        file.write_all_at(&change[2..], at as u64).unwrap();
    }
    file.set_len(kept as u64).unwrap();
    if let Ok(mut reader) = Reader::attach(path) {
        let _ = reader.snapshot(&Detail::default());
        let _ = reader.merged("a", None).map(|merged| merged.to_hdr());
    }
    // Only what was changed is undone: writing all of it again took most of the time.
    file.write_all_at(&bytes[kept..], kept as u64).unwrap();
    for (at, _) in words {
        file.write_all_at(&bytes[at..at + 8], at as u64).unwrap();
    }
});
