//! A soak of the gateway: mixed load over several dialects while everything around it fails. `tests/chaos` runs it.
//!
//! ```text
//! clients (load) --> gateway process(es) --> simulator (every dialect)
//!                        ^      |      `--> TLS front that dies (peer)
//!   reloads, upgrades ---+      `--> redis-server, restarted
//!      (operator)
//! ```
//!
//! Every answer is compared with the only one that its request may get (scenario). At the end the gauges, descriptors and
//! memory of the process that serves must be back near those after the warm-up (measure).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a soak that cannot continue has failed"
)]

#[allow(dead_code, reason = "shared with the end-to-end tests, which use more of it")]
#[path = "../e2e/harness/mod.rs"]
mod harness;
mod load;
mod measure;
mod operator;
mod peer;
mod redis;
mod report;
mod scenario;
mod world;

use futures::FutureExt;
use report::Report;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use world::World;

const USAGE: &str = "usage: tests/chaos [--release] [--seconds N] [--clients N] [--seed N]
  --seconds  how long the load lasts, at least (default 60)
  --clients  requests at a time (default 12)
  --seed     of the random choices (default: from the clock, printed)
  --release  soak the release build";

/// What the command line asks for.
struct Options {
    seconds: u64,
    clients: usize,
    seed: u64,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Self> {
        let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?;
        let mut options = Self { seconds: 60, clients: 12, seed: u64::from(clock.subsec_nanos()) };
        while let Some(name) = arguments.next() {
            let value = arguments.next()?.parse::<u64>().ok()?;
            match name.as_str() {
                "--seconds" => options.seconds = value.max(1),
                "--clients" => options.clients = usize::try_from(value).ok()?.clamp(1, 1_000),
                "--seed" => options.seed = value,
                _ => return None,
            }
        }
        Some(options)
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test` and `cargo nextest` find no tests here: it takes minutes, and `tests/chaos` always gives `--seconds`.
    if !arguments.iter().any(|a| a == "--seconds") {
        return ExitCode::SUCCESS;
    }
    let Some(options) = Options::parse(arguments.into_iter()) else {
        println!("{USAGE}");
        return ExitCode::from(2);
    };
    // What panics here is a failed check, and reported as one.
    std::panic::set_hook(Box::new(|_| {}));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    // Twice the load's time is enough for the start, the last upgrade and the settling; beyond it something hangs.
    let limit = Duration::from_secs(options.seconds * 2 + 240);
    let report = Arc::new(Report::default());
    let soak = AssertUnwindSafe(soak(options, report.clone())).catch_unwind();
    match runtime.block_on(async { tokio::time::timeout(limit, soak).await }) {
        Ok(Ok(())) => {}
        Ok(Err(end)) => report.check("the soak runs to its end", Err(report::panic_text(end))),
        Err(_) => report.check("the soak runs to its end", Err(format!("not over after {limit:?}"))),
    }
    runtime.shutdown_timeout(Duration::from_secs(5));
    if report.print() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn soak(options: Options, report: Arc<Report>) {
    println!("soak: {} s, {} clients, seed {}", options.seconds, options.clients, options.seed);
    let mut world = World::start().await;
    let whole = Duration::from_secs(options.seconds);

    // Without chaos first, so that the start is measured with warm pools.
    let warm_up = load::start(&world, &report, options.clients, options.seed);
    tokio::time::sleep((whole / 6).min(Duration::from_secs(10))).await;
    warm_up.stop().await;
    let start = measure::settled(&world.gateway, None).await;

    let load = load::start(&world, &report, options.clients, options.seed + 1);
    let chaos = [tokio::spawn(redis::restarts(world.redis.clone(), whole)), tokio::spawn(peer::deaths(world.peer.clone(), options.seed))];
    let deadline = tokio::time::Instant::now() + whole;
    let operator = operator::run(&mut world, whole, &report).await;
    tokio::time::sleep_until(deadline).await;
    for task in chaos {
        task.abort();
        let _ = task.await; // it was told to stop
    }
    redis::start(&world.redis).await;
    load.stop().await;

    let end = measure::settled(&world.gateway, Some(&start)).await;
    measure::check(&start, &end, &report);
    operator.finish(options.clients, &report).await;
    report.check("no process panicked", world.panics());
}
