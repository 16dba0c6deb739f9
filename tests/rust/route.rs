//! The choice of a node, in virtual time: how near it comes to the best possible, and what it survives.

#![allow(clippy::unwrap_used)]

use loadgen::policy::{ConfigError, NodeConfig, RouteConfig, Spread};
use loadgen::sim::nodes::{Batch, NodeService, optimum_s, policy, run};

fn batch(nodes: &[NodeService], items: u32, spread: Spread, known: bool, seed: u64) -> Batch {
    run(&policy(nodes, spread, known).unwrap(), nodes, items, seed).unwrap()
}

fn steady(times: &[f64], noise: f64) -> Vec<NodeService> {
    times.iter().map(|&s| NodeService::steady(s, noise)).collect()
}

fn all_done(batch: &Batch, items: u32) {
    assert_eq!((batch.ok, batch.failed), (u64::from(items), 0), "{batch:?}");
}

#[test]
fn the_published_examples_take_the_least_time_that_whole_items_allow() {
    for (times, items, best) in [
        (&[0.1, 1.0, 1.0][..], 100, 8.4),
        (&[0.10, 0.12, 0.11], 100, 3.7),
        (&[0.02, 0.3, 0.3, 0.3], 200, 3.34),
        (&[0.02, 0.02, 0.02], 200, 1.34),
        (&[0.1, 0.1, 0.1, 0.1], 100, 2.5),
    ] {
        let nodes = steady(times, 0.0);
        assert!((optimum_s(&nodes, items) - best).abs() < 1e-6, "{times:?}");
        for known in [true, false] {
            let seen = batch(&nodes, items, Spread::Auto, known, 1);
            all_done(&seen, items);
            assert!(seen.makespan_s <= best * 1.02, "{times:?} known {known}: {seen:?}");
        }
    }
}

/// The service times of one cell of the grid: the fastest takes a second.
fn shape(shape: usize, nodes: usize, ratio: f64) -> Vec<f64> {
    let last = (nodes - 1).max(1) as f64;
    let time = |i: usize| match shape {
        0 => [1.0, ratio][usize::from(i > 0)],
        1 => [1.0, ratio][usize::from(nodes > 1 && i == nodes - 1)],
        2 => [1.0, ratio][usize::from(i >= nodes.div_ceil(2))],
        3 => ratio.powf(i as f64 / last),
        _ => 1.0 + (ratio - 1.0) * i as f64 / last,
    };
    (0..nodes).map(time).collect()
}

/// The grid's smaller batches, where the marks are hardest to keep; `make bench` runs it whole.
const GRID_ITEMS: [u32; 7] = [1, 2, 5, 10, 20, 50, 100];

/// Every cell: (makespan ÷ optimum, copies, items, whether it counts where speeds are unknown).
fn grid(known: bool, noise: f64, seeds: u64) -> Vec<(f64, u64, u64, bool)> {
    let mut cells = Vec::new();
    for items in GRID_ITEMS {
        for ratio in [1.0, 2.0, 5.0, 10.0, 20.0, 50.0] {
            for count in [1, 2, 3, 5, 10] {
                for kind in 0..5 {
                    let mut times = shape(kind, count, ratio);
                    // Where the fast one stands must not matter.
                    times.rotate_left((items as usize + kind) % count);
                    let nodes = steady(&times, noise);
                    let best = optimum_s(&nodes, items);
                    let runs: Vec<Batch> =
                        (0..seeds).map(|seed| batch(&nodes, items, Spread::Auto, known, seed)).collect();
                    runs.iter().for_each(|run| all_done(run, items));
                    let mean = runs.iter().map(|run| run.makespan_s / best).sum::<f64>() / seeds as f64;
                    let copies = runs.iter().map(|run| run.copies).sum();
                    cells.push((mean, copies, u64::from(items) * seeds, items as usize >= 2 * count));
                }
            }
        }
    }
    cells
}

fn extra(cells: &[(f64, u64, u64, bool)], least: u64) -> f64 {
    let counted = cells.iter().filter(|cell| cell.2 >= least);
    let (copies, items) = counted.fold((0, 0), |sum, cell| (sum.0 + cell.1, sum.1 + cell.2));
    copies as f64 / items as f64
}

#[test]
fn with_known_speeds_every_cell_of_the_grid_is_within_two_per_cent() {
    let cells = grid(true, 0.0, 1);
    let worst = cells.iter().map(|cell| cell.0).fold(0.0, f64::max);
    assert!(worst <= 1.02, "{worst}");
}

#[test]
fn with_unknown_speeds_and_noise_the_grid_is_within_ten_per_cent() {
    const SEEDS: u64 = 2;
    let cells = grid(false, 0.3, SEEDS);
    let mut ratios: Vec<f64> = cells.iter().filter(|cell| cell.3).map(|cell| cell.0).collect();
    ratios.sort_by(f64::total_cmp);
    let mean = ratios.iter().sum::<f64>() / ratios.len() as f64;
    let p95 = ratios[ratios.len() * 95 / 100];
    assert!(mean <= 1.10 && p95 <= 1.35, "mean {mean}, p95 {p95}");
    assert!(extra(&cells, 0) <= 0.06, "{}", extra(&cells, 0));
    assert!(extra(&cells, 50 * SEEDS) <= 0.03, "{}", extra(&cells, 50 * SEEDS));
}

#[test]
fn a_node_that_is_down_from_the_start_costs_nothing_but_its_own_share() {
    let mut nodes = steady(&[0.1, 0.1, 0.1], 0.1);
    nodes[0].down = vec![(0.0, 1e9)];
    let seen = batch(&nodes, 100, Spread::Auto, false, 1);
    all_done(&seen, 100);
    assert_eq!(seen.served[0], 0);
    assert!(seen.attempts[0] <= 12, "{seen:?}");
    assert!(seen.makespan_s < 1.15 * 5.0, "{seen:?}");
}

#[test]
fn failing_fast_never_looks_fastest() {
    // It answers a hundred times sooner than the others, with errors.
    let mut nodes = steady(&[1.0, 1.0], 0.2);
    nodes[0].down = vec![(0.0, 1e9)];
    nodes[0].fails_in_s = 0.01;
    let seen = batch(&nodes, 40, Spread::Auto, false, 3);
    all_done(&seen, 40);
    assert!(seen.attempts[0] <= 12, "{seen:?}");
}

#[test]
fn a_node_that_dies_in_the_middle_loses_nothing() {
    let mut nodes = steady(&[0.1, 0.2, 0.2], 0.2);
    nodes[0].down = vec![(2.0, 1e9)];
    for seed in 0..10 {
        let seen = batch(&nodes, 100, Spread::Auto, false, seed);
        all_done(&seen, 100);
        assert!(seen.served[0] >= 10 && seen.served[1] + seen.served[2] >= 60, "{seen:?}");
    }
}

#[test]
fn a_flapping_node_works_while_it_is_up() {
    let mut nodes = steady(&[0.1, 0.3], 0.2);
    nodes[0].down = (0..50).map(|n| (f64::from(n) * 2.0 + 1.0, f64::from(n) * 2.0 + 1.2)).collect();
    let seen = batch(&nodes, 200, Spread::Auto, false, 5);
    all_done(&seen, 200);
    assert!(seen.served[0] > 50, "{seen:?}");
}

#[test]
fn a_node_that_becomes_ten_times_slower_gets_less() {
    let mut nodes = steady(&[0.1, 0.1], 0.2);
    nodes[0].slower = Some((2.0, 10.0));
    let seen = batch(&nodes, 200, Spread::Auto, false, 7);
    all_done(&seen, 200);
    // 40 are done when it changes; of the other 160 it does about one in eleven.
    assert!(seen.makespan_s < 1.2 * (2.0 + 160.0 / 11.0), "{seen:?}");
}

#[test]
fn all_nodes_down_is_an_end_and_what_finished_is_kept() {
    let mut nodes = steady(&[0.1, 0.1], 0.0);
    nodes.iter_mut().for_each(|node| node.down = vec![(1.0, 1e9)]);
    let seen = batch(&nodes, 100, Spread::Auto, false, 1);
    assert_eq!((seen.ok, seen.failed), (20, 80), "{seen:?}");
}

#[test]
fn an_item_that_comes_while_every_node_is_down_is_done_when_they_are_back() {
    let mut nodes = steady(&[0.1, 0.1], 0.0);
    nodes.iter_mut().for_each(|node| node.down = vec![(0.0, 0.05)]);
    let seen = batch(&nodes, 1, Spread::Auto, false, 1);
    all_done(&seen, 1);
}

#[test]
fn an_empty_batch_is_done_at_once() {
    assert_eq!(batch(&steady(&[1.0], 0.0), 0, Spread::Auto, false, 1).makespan_s, 0.0);
}

#[test]
fn the_fastest_few_are_really_only_those() {
    let nodes = steady(&[0.4, 0.1, 0.3, 0.2], 0.1);
    let seen = batch(&nodes, 100, Spread::Fastest(3), true, 1);
    all_done(&seen, 100);
    assert_eq!((seen.attempts[0], seen.copies), (0, 0), "{seen:?}");
    let alone = batch(&nodes, 50, Spread::Fastest(1), true, 1);
    assert_eq!(alone.served, [0, 50, 0, 0]);
}

#[test]
fn the_fastest_alone_fails_over() {
    let mut nodes = steady(&[0.1, 0.2], 0.0);
    nodes[0].down = vec![(1.0, 1e9)];
    let seen = batch(&nodes, 60, Spread::Fastest(1), true, 1);
    all_done(&seen, 60);
    assert!(seen.served[1] >= 40, "{seen:?}");
}

#[test]
fn all_take_what_is_there_whatever_their_speed() {
    let seen = batch(&steady(&[0.1, 10.0], 0.0), 50, Spread::All, true, 1);
    assert_eq!((seen.served[1], seen.copies), (1, 0), "{seen:?}");
    assert!((seen.makespan_s - 10.0).abs() < 1e-6);
}

#[test]
fn slots_work_side_by_side() {
    let mut nodes = steady(&[1.0, 1.0], 0.0);
    nodes[0].slots = 4;
    let seen = batch(&nodes, 50, Spread::Auto, true, 1);
    assert_eq!((seen.served[0], seen.served[1], seen.makespan_s), (40, 10, 10.0));
}

#[test]
fn what_makes_no_sense_is_named() {
    let nodes = steady(&[1.0], 0.0);
    let check = |change: fn(&mut RouteConfig)| {
        let mut config = policy(&nodes, Spread::Auto, true).unwrap();
        change(config.route.as_mut().unwrap());
        config.check().map_err(|error: ConfigError| error.to_string())
    };
    for (change, word) in [
        ((|route| route.nodes.clear()) as fn(&mut RouteConfig), "route.nodes"),
        (|route| route.nodes = vec![NodeConfig::default(); 65], "route.nodes"),
        (|route| route.nodes[0].slots = 0, "slots"),
        (|route| route.nodes[0].service_s = Some(0.0), "service_s"),
        (|route| route.nodes[0].weight = f64::NAN, "weight"),
        (|route| route.spread = Spread::Fastest(0), "fastest"),
        (|route| route.copies = 1.5, "copies"),
        (|route| route.half_life_s = 0.0, "half_life_s"),
    ] {
        let words = check(change).unwrap_err();
        assert!(words.contains(word), "{word}: {words}");
    }
    assert!(check(|_| {}).is_ok());
}
