//! What an operator does while the gateway serves: reloads, now and then a bad file, and upgrades of the binary.

use crate::harness::until;
use crate::report::{BROKEN, CLOSED, Report};
use crate::world::{World, marker};
use std::path::Path;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// Fewest good reloads of a run.
const RELOADS: usize = 200;
/// Fewest upgrades of a run.
const UPGRADES: usize = 5;
/// Longest time between two reloads, and between two upgrades.
const EVERY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Every reload of this number is preceded by one of a bad file.
const BAD: usize = 20;

/// What was done, and what has still to be awaited.
pub struct Operator {
    reloads: usize,
    rejected: usize,
    upgrades: Vec<JoinHandle<Option<i32>>>,
}

/// Works for `whole`, or as long as it takes to do everything once. The last sixth is quiet, for the last process to show
/// what it keeps.
pub async fn run(world: &mut World, whole: Duration, report: &Report) -> Operator {
    let mut done = Operator { reloads: 0, rejected: 0, upgrades: Vec::new() };
    let began = Instant::now();
    let busy = whole * 5 / 6;
    let (reload, upgrade) = ((busy / RELOADS as u32).min(EVERY.0), (busy / UPGRADES as u32).min(EVERY.1));
    let mut next_upgrade = began + upgrade / 2;
    let mut next_reload = began;
    while began.elapsed() < busy || done.reloads < RELOADS || done.upgrades.len() < UPGRADES {
        // After the planned time only what is missing is made up for.
        if Instant::now() >= next_upgrade && (began.elapsed() < busy || done.upgrades.len() < UPGRADES) {
            let new_first = done.upgrades.len() % 2 == 1;
            done.upgrades.push(upgrade_binary(world, new_first).await);
            report.event("upgrades");
            next_upgrade += upgrade;
        }
        if (done.reloads + 1).is_multiple_of(BAD) {
            done.reject(world).await;
            report.event("reloads rejected");
        }
        done.reload(world).await;
        report.event("reloads applied");
        sleep_until(next_reload).await;
        next_reload = (next_reload + reload).max(Instant::now() - reload);
    }
    done
}

/// Replaces the process that serves, in either order; the exit code of the one before comes when it has drained.
async fn upgrade_binary(world: &mut World, new_first: bool) -> JoinHandle<Option<i32>> {
    let successor = if new_first {
        let successor = world.gateway.successor();
        world.gateway.signal("QUIT").await;
        successor
    } else {
        world.gateway.signal("QUIT").await;
        world.gateway.successor()
    };
    world.outputs.push(successor.1.clone());
    successor.1.line("\"serving\"").await;
    let (mut before, _) = world.gateway.continue_with(successor);
    tokio::spawn(async move { before.wait().await.ok()?.code() })
}

/// Replaces the file in one step, so that no half of it is ever read.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(&new, path).unwrap();
}

impl Operator {
    async fn reload(&mut self, world: &World) {
        self.reloads += 1;
        replace(&world.gateway.path, &world.config(self.reloads));
        world.gateway.signal("HUP").await;
        let name = format!("\"{}\"", marker(self.reloads));
        until("the reload", async || world.gateway.page("/status").await.text().contains(&name).then_some(())).await;
    }

    async fn reject(&mut self, world: &World) {
        self.rejected += 1;
        let rejected = async || world.gateway.metric("tidegate_config_reloads_total{result=\"rejected\"}").await;
        let before = rejected().await;
        replace(&world.gateway.path, &world.config(self.reloads).replace("kind: anthropic", "kind: nobody"));
        world.gateway.signal("HUP").await;
        until("the rejection", async || (rejected().await > before).then_some(())).await;
    }

    /// Awaits the ends of all processes that were replaced. They close idle connections after the grace of a drain, one for
    /// each client; beside that, only a stream that ends with an error ends its connection.
    pub async fn finish(self, clients: usize, report: &Report) {
        let mut codes = Vec::new();
        for upgrade in self.upgrades {
            codes.push(upgrade.await.ok().flatten());
        }
        let text = format!("{} upgrades, exit codes {codes:?}", codes.len());
        let good = codes.len() >= UPGRADES && codes.iter().all(|code| *code == Some(0));
        report.check("every replaced process drains and exits 0", if good { Ok(text) } else { Err(text) });
        let broken: u64 = BROKEN.iter().map(|name| report.events_of(name)).sum();
        let (closed, most) = (report.events_of(CLOSED), (clients * codes.len()) as u64 + broken);
        let text = format!("{closed}, at most {most} (one for each client and upgrade and for each broken stream)");
        report.check(CLOSED, if closed <= most { Ok(text) } else { Err(text) });
        let text = format!("{} applied, {} rejected", self.reloads, self.rejected);
        report.check("reloads", if self.reloads >= RELOADS { Ok(text) } else { Err(text) });
    }
}
