//! Summaries with the counts of a tokenizer, where the server told no usage.

use std::path::Path;

use super::*;

/// A file of counts in the form of docs/formats.md.
fn count_tokens(dir: &Path, counts: impl IntoIterator<Item = (u64, u32)>) -> Options {
    let record = |(id, count): (u64, u32)| [&id.to_le_bytes()[..], &count.to_le_bytes()].concat();
    fs::write(dir.join("tokens.bin"), counts.into_iter().flat_map(record).collect::<Vec<u8>>()).unwrap();
    Options { token_counts: Some("tokens.bin".into()), threads: 2, ..Options::default() }
}

#[test]
fn a_tokenizers_counts_stand_for_the_usage_that_no_server_told() {
    let mut log = Log::new(2);
    log.begin(0, json!({"name": "a"}));
    for id in 0..400 {
        let mut told = stream(id, 2 * S + id * MS, 50 * MS, &[20 * MS; 3]);
        told.row.worker = (id % 2) as u16;
        (told.row.tokens_out, told.row.token_source) = (Some(4), TokenSource::Chunks);
        log.push(&told);
    }
    let dir = log.finish();
    let options = count_tokens(dir.path(), (0..400).map(|id| (id, 7)));
    let slo = BTreeMap::from([("tpot".to_owned(), 12.0)]);
    let (summary, phase) = one(dir.path(), Options { slo: slo.clone(), ..options });
    let tokens = &summary.phases[0].tokens;
    assert_eq!((tokens.source, tokens.output, tokens.rows_without_usage), (Some("tokenizer"), Some(2_800), 0));
    assert_eq!(tokens.tokens_per_chunk, Some(1.75));
    assert_eq!((&phase["metrics"]["tpot"]["p99"], &phase["metrics"]["ntpot"]["count"]), (&json!(10.0), &json!(400)));
    assert_eq!(phase["goodput"]["requests"], 400, "by chunks a token took 20 ms");
    let rate = phase["throughput"]["output_tokens_per_s"].as_f64().unwrap();
    assert!((rate * summary.phases[0].duration_s.unwrap() / 2_800.0 - 1.0).abs() < 1e-9);
    let (without, _) = one(dir.path(), Options { slo, ..Options::default() });
    assert_eq!(without.phases[0].tokens.source, Some("chunks"));
    assert_eq!(without.phases[0].goodput.as_ref().unwrap().requests, 0);
}

#[test]
fn usage_and_a_tokenizers_counts_are_never_added_up() {
    let with_usage = |share: u64, counted: u64| {
        let mut log = Log::new(1);
        log.begin(0, json!({"name": "a"}));
        for id in 0..10 {
            let mut told = stream(id, 2 * S + id * MS, 50 * MS, &[10 * MS; 3]);
            if id >= share {
                (told.row.tokens_out, told.row.token_source) = (Some(4), TokenSource::Chunks);
            }
            log.push(&told);
        }
        let dir = log.finish();
        // Counts of answers that told their usage are passed over.
        let options = count_tokens(dir.path(), (10 - counted..10).map(|id| (id, 100)));
        let tokens = summarise(dir.path(), &options).unwrap().phases.remove(0).tokens;
        (tokens.source.unwrap(), tokens.output.unwrap(), tokens.rows_without_usage)
    };
    assert_eq!(with_usage(5, 10), ("usage", 20, 5));
    assert_eq!(with_usage(4, 10), ("tokenizer", 600, 4));
    assert_eq!(with_usage(4, 5), ("tokenizer", 500, 5));
    assert_eq!(with_usage(4, 4), ("chunks", 40, 0));
}

#[test]
fn counts_that_are_named_and_missing_or_broken_are_an_error() {
    let log = Log::new(1);
    log.begin(0, json!({"name": "a"}));
    let dir = log.finish();
    let options = Options { token_counts: Some("tokens.bin".into()), ..Options::default() };
    assert!(summarise(dir.path(), &options).unwrap_err().to_string().starts_with("open"));
    fs::write(dir.path().join("tokens.bin"), [0; 30]).unwrap();
    let error = summarise(dir.path(), &options).unwrap_err().to_string();
    assert!(error.contains("holds no counts of tokens"), "{error}");
}
