//! What limits cost a request: admission, settling and giving the place back, under three limits and under none, with
//! few keys and with many, alone and with threads that meet at one team's limits.

use divan::{Bencher, counter::ItemsCount};
use std::sync::Arc;
use std::time::Duration;
use tidegate::limit::rule::{Dimension, Limit, LimitPeriod, LimitRule};
use tidegate::limit::{Estimate, Limiter, Subject, Used};

const NOW: u64 = 1_800_000_000_000_000_000;
const ESTIMATE: Estimate = Estimate { tokens: 300, micro_usd: 900 };
const USED: Used = Used { tokens: 250, micro_usd: 750 };

const ROUNDS: usize = 1000;

const MINUTE: LimitPeriod = LimitPeriod::Smooth(Duration::from_secs(60));

const fn limit(dimension: Dimension, amount: u64, per: LimitPeriod) -> Limit {
    Limit { rule: LimitRule { dimension, amount, per, burst: 1_000_000_000_000, warn: None }, routes: None }
}

static KEY: [Limit; 1] = [limit(Dimension::Requests, 1_000_000_000_000, MINUTE)];
static NONE: [Limit; 1] = [limit(Dimension::Requests, 0, MINUTE)];
static TEAM: [Limit; 2] =
    [limit(Dimension::Tokens, 1_000_000_000_000, MINUTE), limit(Dimension::Concurrent, 1_000_000_000_000, LimitPeriod::None)];

fn limiter(keys: usize) -> Arc<Limiter> {
    let keys = (0..keys).map(|i| (format!("key-{i}").into(), KEY.as_slice())).collect();
    Arc::new(Limiter::with([keys, vec![("team".into(), &TEAM)], vec![("route".into(), &[])], vec![]], None, NOW))
}

fn serve(limiter: &Arc<Limiter>, key: usize, now: u64) {
    let who = Subject { key: Some(key), team: Some(0) };
    if let Ok(mut permit) = limiter.admit(&who, 0, ESTIMATE, now) {
        divan::black_box(permit.headers());
        permit.settle(USED, now + 1);
    }
}

#[divan::bench(args = [10, 10_000], threads = [1, 2])]
fn three_limits(bencher: Bencher<'_, '_>, keys: usize) {
    let limiter = limiter(keys);
    bencher.counter(ItemsCount::new(ROUNDS)).bench(|| (0..ROUNDS).for_each(|i| serve(&limiter, i * 7919 % keys, NOW + i as u64)));
}

#[divan::bench]
fn no_limits(bencher: Bencher<'_, '_>) {
    let limiter = Arc::new(Limiter::default());
    bencher.counter(ItemsCount::new(ROUNDS)).bench(|| (0..ROUNDS).for_each(|i| serve(&limiter, i, NOW)));
}

#[divan::bench(args = [10, 10_000])]
fn refused(bencher: Bencher<'_, '_>, keys: usize) {
    let keys: Vec<_> = (0..keys).map(|i| (format!("key-{i}").into(), NONE.as_slice())).collect();
    let limiter = Arc::new(Limiter::with([keys, vec![("team".into(), &TEAM)], vec![], vec![]], None, NOW));
    bencher.counter(ItemsCount::new(ROUNDS)).bench(|| (0..ROUNDS).for_each(|i| serve(&limiter, i % 10, NOW)));
}

fn main() {
    divan::main();
}
