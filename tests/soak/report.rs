//! What happened, counted by scenario, and what was checked at the end.

use parking_lot::Mutex;
use std::any::Any;
use std::collections::BTreeMap;

/// Most failures of requests that are printed in full.
const MAX_SHOWN: usize = 30;

/// Counted where a client finds its idle connection closed, and sends its request on another one.
pub const CLOSED: &str = "kept connections closed before a request";
/// Streams that end with an error event, which ends an HTTP/1 connection: its head could not announce that.
pub const BROKEN: [&str; 2] = ["streams broken as scripted", "streams broken by a dying peer"];

/// See the module.
#[derive(Default)]
pub struct Report {
    scenarios: Mutex<BTreeMap<&'static str, Counts>>,
    events: Mutex<BTreeMap<&'static str, u64>>,
    failures: Mutex<Vec<String>>,
    checks: Mutex<Vec<(String, Result<String, String>)>>,
}

/// Requests of one scenario.
#[derive(Clone, Copy, Default)]
struct Counts {
    expected: u64,
    failed: u64,
}

impl Report {
    /// A request had one of the ends that its scenario expects.
    pub fn expected(&self, scenario: &'static str) {
        self.scenarios.lock().entry(scenario).or_default().expected += 1;
    }

    /// A request had any other end.
    pub fn failed(&self, scenario: &'static str, why: &str) {
        self.scenarios.lock().entry(scenario).or_default().failed += 1;
        let mut failures = self.failures.lock();
        if failures.len() < MAX_SHOWN {
            let why: String = why.chars().take(700).collect();
            failures.push(format!("{scenario}: {why}"));
        }
    }

    /// Counts something that is neither good nor bad.
    pub fn event(&self, name: &'static str) {
        *self.events.lock().entry(name).or_default() += 1;
    }

    /// How often something was counted.
    pub fn events_of(&self, name: &str) -> u64 {
        self.events.lock().get(name).copied().unwrap_or_default()
    }

    /// The result of a check: what was measured, or what is wrong.
    pub fn check(&self, name: &str, result: Result<String, String>) {
        self.checks.lock().push((name.to_owned(), result));
    }

    /// Prints everything; whether all is well.
    pub fn print(&self) -> bool {
        let (mut passed, mut failed) = (0, 0);
        let mut count = |good: bool| if good { passed += 1 } else { failed += 1 };
        println!("\n{:<18} {:>9} {:>11}", "scenario", "expected", "unexpected");
        for (name, counts) in self.scenarios.lock().iter() {
            println!("{name:<18} {:>9} {:>11}", counts.expected, counts.failed);
            count(counts.failed == 0);
        }
        println!();
        self.events.lock().iter().for_each(|(name, count)| println!("{count:>6} {name}"));
        println!();
        for (name, result) in self.checks.lock().iter() {
            match result {
                Ok(figure) => println!("ok    {name}: {figure}"),
                Err(why) => println!("FAIL  {name}: {why}"),
            }
            count(result.is_ok());
        }
        self.failures.lock().iter().for_each(|failure| println!("\nunexpected: {failure}"));
        println!("\n{passed} passed, {failed} failed");
        failed == 0
    }
}

/// The message of a panic.
pub fn panic_text(payload: Box<dyn Any + Send>) -> String {
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => payload.downcast_ref::<&str>().map_or("panicked", |text| text).to_owned(),
    }
}
