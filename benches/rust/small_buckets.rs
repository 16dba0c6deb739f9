//! How close a batch comes to what a service's token bucket lets through, and for how many requests.
//!
//! `cargo run --profile bench-fast --example small_buckets [seeds [first seed]]`: services of 1 to 100 calls a second and 1 to 40
//! at once, which say nothing of when to come back, or say it in whole seconds or in milliseconds, and refuse at once or as slowly
//! as they answer; 200 calls each. A figure is the mean wall over the least there can be, which is the time in which what isn't
//! in the full bucket comes in, and one answer.

#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize, Ordering};

use loadgen::policy::Config;
use loadgen::sim::{Latency, Rate, Service, run};

const RATES: [f64; 7] = [1.0, 2.0, 5.0, 12.0, 20.0, 50.0, 100.0];
const BURSTS: [f64; 10] = [1.0, 2.0, 3.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 40.0];
const WISHES: [&str; 3] = ["none", "whole seconds", "exact"];
const REFUSALS: [(&str, f64); 2] = [("quick", 0.005), ("slow", ANSWER_S)];
const STRATEGIES: [&str; 4] = ["auto", "adaptive_ceiling", "hedged", "parallel of 8"];
const ITEMS: u32 = 200;
const ANSWER_S: f64 = 0.5;

/// One service, and what each strategy came to on it.
struct Cell {
    per_s: f64,
    burst: f64,
    wish: usize,
    refusal: usize,
    found: [Found; STRATEGIES.len()],
}

/// Mean wall over the least there can be, mean requests an item, and items without an answer.
#[derive(Clone, Copy, Default)]
struct Found {
    wall: f64,
    requests: f64,
    failed: u32,
}

fn main() {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<u64>().unwrap());
    let (count, first) = (args.next().unwrap_or(40), args.next().unwrap_or(0));
    let cells = measured(&|| first..first + count);
    for (wish, told) in WISHES.iter().enumerate() {
        for (refusal, (how, _)) in REFUSALS.iter().enumerate() {
            println!(
                "\nRetry-After: {told}, refusals {how}: wall over the least of auto (of adaptive_ceiling), by burst"
            );
            table(&cells, |cell| cell.wish == wish && cell.refusal == refusal);
        }
    }
    summary(&cells);
}

fn measured<S: Iterator<Item = u64>>(seeds: &(impl Fn() -> S + Sync)) -> Vec<Cell> {
    let mut cells = Vec::new();
    for (wish, refusal) in (0..WISHES.len()).flat_map(|wish| (0..REFUSALS.len()).map(move |refusal| (wish, refusal))) {
        for (per_s, burst) in RATES.iter().flat_map(|&r| BURSTS.iter().map(move |&b| (r, b))) {
            cells.push(Cell { per_s, burst, wish, refusal, found: Default::default() });
        }
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        // Relaxed: each number is given out once, and nothing else hangs on it; the join publishes what was found.
        while let Some((i, cell)) = Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|i| Some((i, cells.get(i)?))) {
            done.push((i, STRATEGIES.map(|strategy| cell.run(strategy, seeds()))));
        }
        done
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let found: Vec<_> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        all.into_iter().flat_map(|one| one.join().unwrap()).collect()
    });
    found.into_iter().for_each(|(i, found)| cells[i].found = found);
    cells
}

impl Cell {
    fn service(&self) -> Service {
        let rate =
            Rate { per_s: self.per_s, burst: self.burst, retry_after: self.wish == 1, retry_after_ms: self.wish == 2 };
        Service {
            rate: Some(rate),
            refuse_s: REFUSALS[self.refusal].1,
            ..Service::of(Latency::Lognormal { median_s: ANSWER_S, sigma: 0.3 })
        }
    }

    fn run(&self, strategy: &str, seeds: impl Iterator<Item = u64>) -> Found {
        let config = match strategy {
            "parallel of 8" => Config::named("parallel", ITEMS, None, Some(r#"{"limit":{"n":8}}"#)).unwrap(),
            named => Config::named(named, ITEMS, None, None).unwrap(),
        };
        let (service, mut sum, mut batches) = (self.service(), Found::default(), 0.0);
        for seed in seeds {
            let batch = run(&config, &service, ITEMS, seed).unwrap();
            sum.wall += batch.wall_ns as f64 / 1e9;
            sum.requests += batch.totals.attempts as f64 / f64::from(ITEMS);
            sum.failed += batch.failed;
            batches += 1.0;
        }
        let least = (f64::from(ITEMS) - self.burst) / self.per_s + ANSWER_S;
        Found { wall: sum.wall / batches / least, requests: sum.requests / batches, failed: sum.failed }
    }
}

fn table(cells: &[Cell], of: impl Fn(&Cell) -> bool) {
    let row = |cells: Vec<String>| println!("{}", cells.concat());
    row(std::iter::once(format!("{:>6}", "per s")).chain(BURSTS.map(|burst| format!("{burst:>13}"))).collect());
    for per_s in RATES {
        let cells = cells.iter().filter(|cell| of(cell) && cell.per_s == per_s);
        let figures = cells.map(|cell| format!("{:>6.2} ({:.2})", cell.found[0].wall, cell.found[1].wall));
        row(std::iter::once(format!("{per_s:>6}")).chain(figures).collect());
    }
}

/// Of each wish and kind of refusal, and of all: the middle (by ratio) of the walls and the mean of the requests of each strategy,
/// and on how many services `auto` is slower than `adaptive_ceiling`.
fn summary(cells: &[Cell]) {
    println!("\n{:<24}{}", "wall ÷ least, requests", STRATEGIES.map(|strategy| format!("{strategy:>18}")).concat());
    for (wish, refusal) in (0..WISHES.len()).flat_map(|wish| (0..REFUSALS.len()).map(move |refusal| (wish, refusal))) {
        let of: Vec<_> = cells.iter().filter(|cell| cell.wish == wish && cell.refusal == refusal).collect();
        line(&format!("{}, {}", WISHES[wish], REFUSALS[refusal].0), &of);
    }
    line("all", &cells.iter().collect::<Vec<_>>());
}

fn line(name: &str, cells: &[&Cell]) {
    let count = cells.len() as f64;
    let figures = (0..STRATEGIES.len()).map(|i| {
        let wall = (cells.iter().map(|cell| cell.found[i].wall.ln()).sum::<f64>() / count).exp();
        let requests = cells.iter().map(|cell| cell.found[i].requests).sum::<f64>() / count;
        format!("{wall:>12.3} {requests:>5.2}")
    });
    let figures: String = figures.collect();
    // Giving items up isn't fast.
    let comparable = cells.iter().filter(|cell| cell.found[1].failed <= cell.found[0].failed);
    let share = |cell: &&&Cell| cell.found[0].wall / cell.found[1].wall;
    let slower = comparable.clone().filter(|cell| share(cell) > 1.02).count();
    let worst = comparable.max_by(|a, b| share(a).total_cmp(&share(b))).unwrap();
    println!(
        "{name:<24}{figures}   slower than adaptive_ceiling on {slower:>3} of {:>3}, at worst {:.2} times ({}/s, burst {})",
        cells.len(),
        share(&worst),
        worst.per_s,
        worst.burst
    );
}
