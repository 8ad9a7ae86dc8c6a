//! The commands that serve; [`crate::cli`] calls them with what it has read and checked.

use crate::cli::Exit;
use crate::config::Loaded;
use crate::edge::serve::{self, Ended};
use crate::simulate::Simulator;
use crate::telemetry::log;
use std::future::pending;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Serves a configuration until it is told to stop. `source` is the file to read again on a reload; `None` for the
/// demo configuration, which has none. `upgrade` takes the listeners over from the process that holds them.
pub fn run(loaded: Loaded, source: Option<PathBuf>, upgrade: bool) -> Exit {
    if log::install(&loaded.snapshot.log).is_err() {
        return could_not_start("the log is installed already");
    }
    let ended = serve::run(loaded, source, upgrade);
    log::flush();
    match ended {
        Ended::Well => Exit::Fine,
        Ended::CouldNotStart(why) => {
            eprintln!("tidegate: {why}");
            Exit::CouldNotStart
        }
    }
}

/// Serves the demo configuration, its providers played by the simulator at `simulator`.
pub fn demo(loaded: Loaded, simulator: SocketAddr) -> Exit {
    let (told, ready) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let failed = simulate_until(simulator, || drop(told.send(None)));
        drop(told.send(failed.err()));
    });
    match ready.recv() {
        Ok(None) => run(loaded, None, false),
        Ok(Some(why)) => could_not_start(&why),
        Err(_) => could_not_start("the simulator did not start"),
    }
}

/// Serves the provider simulator alone.
pub fn simulate(listen: SocketAddr) -> Exit {
    match simulate_until(listen, || eprintln!("tidegate: the simulator listens on {listen}")) {
        Ok(()) => Exit::Fine,
        Err(why) => could_not_start(&why),
    }
}

fn simulate_until(listen: SocketAddr, ready: impl FnOnce()) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|e| e.to_string())?;
    runtime.block_on(async {
        let simulator = Simulator::bind(listen).await.map_err(|e| format!("cannot listen on {listen}: {e}"))?;
        ready();
        simulator.serve(pending::<()>()).await;
        Ok(())
    })
}

fn could_not_start(why: &str) -> Exit {
    eprintln!("tidegate: {why}");
    Exit::CouldNotStart
}
