//! The choice of a node, in virtual time: how near it comes to the best possible, and what it survives.

#![allow(clippy::unwrap_used)]

use loadgen::policy::{Action, BreakerConfig, Config, ConfigError, Event, NodeConfig, Policy, RouteConfig, Spread};
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

/// As a pool of nodes has it: a node that fails five times in a row gets nothing for ten seconds.
fn with_breakers(nodes: &[NodeService], known: bool) -> Config {
    let mut config = policy(nodes, Spread::Auto, known).unwrap();
    config.breaker = Some(BreakerConfig { failures: Some(5), cooldown_s: 10.0, probes: 2, ..BreakerConfig::default() });
    config.retry.attempts = 3 + nodes.len() as u32;
    (config.retry.base_s, config.retry.most_s, config.retry.budget) = (0.05, 5.0, 1.0);
    config
}

#[test]
fn an_item_that_comes_while_every_node_is_down_is_done_when_they_are_back() {
    let mut nodes = steady(&[0.1, 0.1], 0.0);
    nodes.iter_mut().for_each(|node| node.down = vec![(0.0, 0.05)]);
    let seen = batch(&nodes, 1, Spread::Auto, false, 1);
    all_done(&seen, 1);
}

#[test]
fn items_that_no_node_can_do_fail_alone_and_shut_no_node() {
    // One in five, ten of them one after the other, which alone would shut every node.
    let poison: Vec<u32> = (40..50).chain((0..200).filter(|item| item % 5 == 0)).collect();
    let mut nodes = steady(&[0.1, 0.1, 0.2], 0.1);
    nodes.iter_mut().for_each(|node| node.poison.clone_from(&poison));
    for seed in 0..10 {
        let seen = run(&with_breakers(&nodes, false), &nodes, 200, seed).unwrap();
        let mut lost = poison.clone();
        lost.sort_unstable();
        lost.dedup();
        assert_eq!(seen.lost, lost, "{seen:?}");
        // Its 192 tries cost as long as answers would, and so do the 152 answers: 25 a second. Nobody sits out a cooldown.
        assert!(seen.makespan_s < 15.0, "{seen:?}");
    }
}

#[test]
fn items_that_no_node_can_do_at_both_ends_of_a_batch_take_none_of_the_others_with_them() {
    // The first ones shut every node; then the last one, which is to show that it was the items, fails as well.
    for poison in [[0..20, 170..200], [0..40, 140..200], [40..60, 170..200]] {
        let poison: Vec<u32> = poison.into_iter().flatten().collect();
        let mut nodes = steady(&[0.1, 0.1, 0.2], 0.1);
        nodes.iter_mut().for_each(|node| node.poison.clone_from(&poison));
        for seed in 0..10 {
            let seen = run(&with_breakers(&nodes, false), &nodes, 200, seed).unwrap();
            assert_eq!(seen.lost, poison, "seed {seed}: {seen:?}");
            // A node may sit out a cooldown or two; none stands idle for as long as it has failed.
            assert!(seen.makespan_s < 100.0, "seed {seed}: {seen:?}");
        }
    }
}

#[test]
fn an_item_that_waits_for_the_only_node_that_may_do_it_holds_nobody_up() {
    let mut nodes = steady(&[0.1, 5.0], 0.0);
    nodes[0].poison = vec![5];
    let seen = run(&with_breakers(&nodes, true), &nodes, 100, 1).unwrap();
    all_done(&seen, 100);
    // The slow one does one item, and then the one that the other can't; which goes on meanwhile.
    assert_eq!(seen.served, [98, 2], "{seen:?}");
    assert!((seen.makespan_s - 10.0).abs() < 0.5, "{seen:?}");
}

#[test]
fn a_node_that_comes_back_is_let_in_by_an_item_that_it_can_do() {
    let mut nodes = steady(&[0.1, 0.3], 0.1);
    nodes[0].down = vec![(1.0, 5.0)];
    let poison: Vec<u32> = (0..300).filter(|item| item % 7 == 3).collect();
    nodes.iter_mut().for_each(|node| node.poison.clone_from(&poison));
    for seed in 0..10 {
        let seen = run(&with_breakers(&nodes, false), &nodes, 300, seed).unwrap();
        assert_eq!(seen.lost, poison);
        // The slow one alone would take 77 s.
        assert!(seen.served[0] > 100 && seen.makespan_s < 45.0, "seed {seed}: {seen:?}");
    }
}

#[test]
fn a_request_that_fails_with_all_its_items_is_one_failure() {
    let mut nodes = steady(&[0.05], 0.0);
    nodes[0] = NodeService { batch: 8, slots: 8, down: vec![(1.0, 1.05)], ..nodes[0].clone() };
    let seen = run(&with_breakers(&nodes, false), &nodes, 100, 1).unwrap();
    all_done(&seen, 100);
    assert!(seen.makespan_s < 8.0, "it isn't shut: {seen:?}");
}

/// A node that takes so long for a request and for each item of it, and learns how many one carries.
fn learner(request_s: f64, item_s: f64, noise: f64) -> NodeService {
    NodeService { request_s, batch: 64, slots: 64, start: Some(4), ..NodeService::steady(item_s, noise) }
}

#[test]
fn requests_grow_where_most_of_the_time_is_theirs_and_stay_small_where_it_is_their_items() {
    for seed in 0..10 {
        let seen = batch(&[learner(0.1, 0.001, 0.1)], 2_000, Spread::Auto, false, seed);
        all_done(&seen, 2_000);
        assert_eq!(seen.batch, [64], "{seen:?}");
        // 32 of 64 items take 5.2 s, and one at a time 202.
        assert!(seen.makespan_s < 1.25 * 5.2, "{seen:?}");
        let seen = batch(&[learner(0.0, 0.01, 0.1)], 2_000, Spread::Auto, false, seed);
        assert!(seen.batch[0] <= 4 && seen.makespan_s < 1.1 * 20.0, "{seen:?}");
    }
}

#[test]
fn each_node_finds_its_own_size_and_one_that_refuses_is_taken_at_its_word() {
    let refusing = NodeService { refuses_above: Some(16), ..learner(0.1, 0.001, 0.1) };
    let nodes = [refusing, learner(0.1, 0.001, 0.1), learner(0.0, 0.02, 0.1)];
    for seed in 0..10 {
        let seen = batch(&nodes, 5_000, Spread::Auto, false, seed);
        all_done(&seen, 5_000);
        assert_eq!(seen.batch[..2], [16, 64], "{seen:?}");
        assert!(seen.batch[2] <= 8, "{seen:?}");
        // 16 a 0.116 s, 64 a 0.164 s and 50 a second are 578 a second.
        assert!(seen.makespan_s < 1.25 * 5_000.0 / 578.0, "{seen:?}");
    }
}

#[test]
fn a_learning_node_that_dies_with_a_request_loses_none_of_it() {
    let mut nodes = [learner(0.1, 0.001, 0.1), learner(0.1, 0.002, 0.1)];
    nodes[0].down = vec![(1.0, 1e9)];
    let seen = run(&with_breakers(&nodes, false), &nodes, 2_000, 3).unwrap();
    all_done(&seen, 2_000);
    assert!(seen.served[0] > 50 && seen.served[1] > 1_000, "{seen:?}");
}

#[test]
fn a_spare_node_works_only_while_the_others_fall_short() {
    let pool = |change: fn(&mut NodeService)| {
        let mut nodes = steady(&[0.1, 0.1, 0.1], 0.1);
        nodes[2].spare = Some(0.6);
        change(&mut nodes[0]);
        run(&with_breakers(&nodes, true), &nodes, 200, 1).unwrap()
    };
    let spared = pool(|_| {});
    all_done(&spared, 200);
    assert_eq!(spared.attempts[2], 0, "it isn't needed: {spared:?}");
    for change in
        [(|node| node.down = vec![(2.0, 1e9)]) as fn(&mut NodeService), |node| node.slower = Some((2.0, 10.0))]
    {
        let seen = pool(change);
        all_done(&seen, 200);
        assert!(seen.served[2] > 40, "{seen:?}");
    }
}

#[test]
fn a_spare_node_of_last_resort_works_while_none_of_the_others_does() {
    let mut nodes = steady(&[0.1, 0.1, 0.1], 0.1);
    nodes[2].spare = Some(0.0);
    nodes[0].down = vec![(1.0, 1e9)];
    assert_eq!(run(&with_breakers(&nodes, true), &nodes, 200, 1).unwrap().attempts[2], 0);
    nodes[1].down = vec![(2.0, 1e9)];
    let seen = run(&with_breakers(&nodes, true), &nodes, 200, 1).unwrap();
    all_done(&seen, 200);
    assert!(seen.served[2] > 100, "{seen:?}");
}

#[test]
fn a_node_that_was_left_out_works_when_it_is_back() {
    let nodes = steady(&[0.1, 0.1], 0.0);
    let mut policy = Policy::new(&policy(&nodes, Spread::Auto, false).unwrap(), 1).unwrap();
    let started = |policy: &mut Policy, now: u64| -> Vec<u16> {
        let node = |action| match action {
            Action::Start { node, .. } => node,
            other => panic!("{other:?}"),
        };
        std::iter::from_fn(|| policy.poll(now)).map(node).collect()
    };
    policy.on_event(0, Event::Room { node: 0, slots: 0 });
    policy.on_event(0, Event::Queued { count: 10, key: 0, tokens: 0 });
    assert_eq!(started(&mut policy, 0), [1]);
    assert!(!policy.node(0).unwrap().up);
    policy.on_event(5, Event::Room { node: 0, slots: 1 });
    assert_eq!(started(&mut policy, 5), [0]);
    assert!(policy.node(0).unwrap().up);
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
        (|route| route.nodes[0].batch = 0, "batch"),
        (|route| route.nodes[0].start = Some(0), "start"),
        (|route| route.nodes[0].spare = Some(1.5), "spare"),
        (|route| route.spread = Spread::Fastest(0), "fastest"),
        (|route| route.copies = 1.5, "copies"),
        (|route| route.half_life_s = 0.0, "half_life_s"),
    ] {
        let words = check(change).unwrap_err();
        assert!(words.contains(word), "{word}: {words}");
    }
    assert!(check(|_| {}).is_ok());
}
