//! The commands that serve; [`crate::cli`] calls them with what it has read and checked.

use crate::config::Loaded;
use crate::demo::Demo;
use crate::edge::serve::{self, Ended, OnServing};
use crate::simulate::Simulator;
use crate::telemetry::log;
use std::future::pending;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All went well.
    Fine = 0,
    /// The configuration is wrong.
    BadConfiguration = 1,
    /// The arguments are wrong.
    BadUsage = 2,
    /// An address could not be bound, or something else was missing at the start.
    CouldNotStart = 3,
}

/// Serves a configuration until it is told to stop. `source` is the file to read again on a reload. `upgrade` takes the
/// listeners over from the process that holds them.
pub fn run(loaded: Loaded, source: PathBuf, upgrade: bool) -> Exit {
    serve_until_end(loaded, Some(source), upgrade, Box::new(|| {}))
}

/// Serves the demo, its providers played by the simulator.
pub fn demo(loaded: Loaded, demo: &Demo) -> Exit {
    let (told, ready) = std::sync::mpsc::channel();
    let (address, pace) = (demo.simulator, demo.pace());
    std::thread::spawn(move || {
        let failed = simulate_until(address, pace, || drop(told.send(None)));
        drop(told.send(failed.err()));
    });
    let banner = demo.banner();
    let exit = match ready.recv() {
        Ok(None) => serve_until_end(loaded, None, false, Box::new(move || eprint!("{banner}"))),
        Ok(Some(why)) => could_not_start(&why),
        Err(_) => could_not_start("the simulator did not start"),
    };
    if exit == Exit::CouldNotStart {
        eprintln!("tidegate: the demo's addresses are set with --listen, --admin and --simulator");
    }
    exit
}

fn serve_until_end(loaded: Loaded, source: Option<PathBuf>, upgrade: bool, on_serving: OnServing) -> Exit {
    if log::install(&loaded.snapshot.log).is_err() {
        return could_not_start("the log is installed already");
    }
    let ended = serve::run(loaded, source, upgrade, on_serving);
    log::flush();
    match ended {
        Ended::Well => Exit::Fine,
        Ended::CouldNotStart(why) => could_not_start(&why),
    }
}

/// Serves the provider simulator alone.
pub fn simulate(listen: SocketAddr) -> Exit {
    match simulate_until(listen, Duration::ZERO, || eprintln!("tidegate: the simulator listens on {listen}")) {
        Ok(()) => Exit::Fine,
        Err(why) => could_not_start(&why),
    }
}

fn simulate_until(listen: SocketAddr, pace: Duration, ready: impl FnOnce()) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|e| e.to_string())?;
    runtime.block_on(async {
        let simulator = Simulator::bind(listen).await.map_err(|e| format!("cannot listen on {listen}: {e}"))?;
        ready();
        simulator.with_pace(pace).serve(pending::<()>()).await;
        Ok(())
    })
}

fn could_not_start(why: &str) -> Exit {
    eprintln!("tidegate: {why}");
    Exit::CouldNotStart
}
