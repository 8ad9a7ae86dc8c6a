//! `tidegate demo` and `tidegate simulate`: the commands that serve the provider simulator, the demo with a gateway in front
//! of it, configured by `conf/demo.yaml`.

use crate::commands::{Exit, could_not_start, serve_until_end};
use crate::config::Loaded;
use crate::simulate::Simulator;
use crate::terminal;
use clap::Args;
use std::future::pending;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// Serves the simulator alone.
pub fn simulate(listen: SocketAddr) -> Exit {
    match simulate_until(listen, Duration::ZERO, || terminal::message(format_args!("the simulator listens on {listen}"))) {
        Ok(()) => Exit::Fine,
        Err(why) => could_not_start(&why),
    }
}

#[expect(clippy::disallowed_methods, reason = "this thread does nothing else")]
fn simulate_until(listen: SocketAddr, pace: Duration, ready: impl FnOnce()) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|e| e.to_string())?;
    runtime.block_on(async {
        let simulator = Simulator::bind(listen).await.map_err(|e| format!("cannot listen on {listen}: {e}"))?;
        ready();
        simulator.with_pace(pace).serve(pending::<()>()).await;
        Ok(())
    })
}

/// Where the demo listens, and how fast its providers are. No address is guessed: one that is in use is an error.
#[derive(Args, Clone, Debug)]
pub struct Demo {
    /// Where clients connect
    #[arg(long, value_name = "ADDR", env = "TIDEGATE_DEMO_LISTEN", default_value = "127.0.0.1:3000", value_parser = address)]
    pub listen: SocketAddr,
    /// Where metrics, status and limits are shown
    #[arg(long, value_name = "ADDR", env = "TIDEGATE_DEMO_ADMIN", default_value = "127.0.0.1:9464", value_parser = address)]
    pub admin: SocketAddr,
    /// Where the simulator plays the providers
    #[arg(long, value_name = "ADDR", env = "TIDEGATE_DEMO_SIMULATOR", default_value = "127.0.0.1:3001", value_parser = address)]
    pub simulator: SocketAddr,
    /// Stream without pauses
    #[arg(long, env = "TIDEGATE_DEMO_FAST")]
    pub fast: bool,
}

/// An address that can be printed before it is bound.
pub fn address(text: &str) -> Result<SocketAddr, &'static str> {
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => Ok(address),
        Ok(_) => Err("port 0 would be a different one each time; choose a port"),
        Err(_) => Err("expected an address and a port, like 127.0.0.1:3000 or 0.0.0.0:3000"),
    }
}

/// Where a client on this machine reaches a listener.
fn reached(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { IpAddr::V6(Ipv6Addr::LOCALHOST) });
    }
    address
}

impl Demo {
    /// Serves the demo, configured by [`CONFIG`].
    pub fn serve(&self, loaded: Loaded) -> Exit {
        let (started, ready) = std::sync::mpsc::sync_channel(2);
        let (address, pace) = (self.simulator, self.pace());
        std::thread::spawn(move || {
            let failed = simulate_until(address, pace, || drop(started.send(None)));
            drop(started.send(failed.err()));
        });
        let banner = self.banner();
        let exit = match ready.recv() {
            Ok(None) => serve_until_end(loaded, None, false, Box::new(move || terminal::write_error(&banner))),
            Ok(Some(why)) => could_not_start(&why),
            Err(_) => could_not_start("the simulator did not start"),
        };
        if exit == Exit::CouldNotStart {
            terminal::message("the demo's addresses are set with --listen, --admin and --simulator");
        }
        exit
    }

    /// The pause before each event of a stream.
    fn pace(&self) -> Duration {
        if self.fast { Duration::ZERO } else { PACE }
    }

    /// A variable of [`CONFIG`]. On a `terminal` the log is short.
    pub fn variable(&self, name: &str, terminal: bool) -> Option<String> {
        match name {
            "TIDEGATE_DEMO_LISTEN" => Some(self.listen.to_string()),
            "TIDEGATE_DEMO_ADMIN" => Some(self.admin.to_string()),
            "TIDEGATE_DEMO_SIMULATOR" => Some(reached(self.simulator).to_string()),
            "TIDEGATE_DEMO_LOG" => Some(if terminal { "short" } else { "json" }.to_owned()),
            _ => None,
        }
    }

    /// What is printed when the demo serves.
    fn banner(&self) -> String {
        let (api, admin, simulator) = (reached(self.listen), reached(self.admin), reached(self.simulator));
        let curl = |options: &str, body: &str| {
            format!("    curl {options} http://{api}/v1/chat/completions -H 'authorization: Bearer tg-demo' \\\n      -d '{body}'\n")
        };
        let ask = r#""messages":[{"role":"user","content":"What is the tide?"}]"#;
        [
            "\nTidegate demo: all providers are played by a simulator. It needs no key and no network.\n\n".to_owned(),
            format!("  API        http://{api}/v1   key: tg-demo\n"),
            format!("  admin      http://{admin}/   a page to look at; /metrics /status /limits\n"),
            format!("  simulator  http://{simulator}   what it was asked last: /_simulator/requests?last=1\n\n"),
            "  An answer:\n".to_owned(),
            curl("-sw '\\n'", &format!(r#"{{"model":"qwen3-4b",{ask}}}"#)),
            "  A stream, here from Anthropic's protocol:\n".to_owned(),
            curl("-sN", &format!(r#"{{"model":"anthropic","stream":true,{ask}}}"#)),
            "  Fail-over; the header x-tidegate-attempts says 2:\n".to_owned(),
            curl("-siw '\\n'", &format!(r#"{{"model":"failover",{ask}}}"#)),
            "\n  Further models: slow (heartbeats in a stream), limited (429 on the fourth call with the key tg-limited),\n".to_owned(),
            "  budget (402 on the second call), and one for each provider. Stop with Ctrl-C.\n\n".to_owned(),
        ]
        .concat()
    }
}

/// The configuration.
pub const CONFIG: &str = include_str!("../conf/demo.yaml");
/// Pause before each event of a stream, so that it can be seen to arrive.
const PACE: Duration = Duration::from_millis(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn demo() -> Demo {
        let at = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        Demo { listen: at(4000), admin: at(4001), simulator: at(4002), fast: false }
    }

    #[test]
    fn an_address_is_used_as_it_is_given() {
        assert_eq!(address("0.0.0.0:3000").unwrap(), SocketAddr::from((Ipv4Addr::UNSPECIFIED, 3000)));
        assert_eq!(address("[::1]:3000").unwrap().port(), 3000);
        for wrong in ["127.0.0.1:0", "3000", "localhost:3000", "127.0.0.1", ""] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_configuration_has_the_demo_s_addresses() {
        let demo = demo();
        let loaded = config::parse(CONFIG, "demo", &|name| demo.variable(name, true)).unwrap_or_else(|problems| panic!("{problems:#?}"));
        let snapshot = loaded.snapshot;
        assert_eq!(snapshot.listen[0].address.to_string(), "0.0.0.0:4000");
        assert_eq!(snapshot.admin.to_string(), "0.0.0.0:4001");
        assert_eq!(snapshot.log.format, crate::telemetry::log::LogFormat::Short);
        assert!(snapshot.server.cors.is_some_and(|cors| cors.any));
        assert!(demo.variable("TIDEGATE_DEMO_SIMULATOR", true).unwrap() == "127.0.0.1:4002", "a client reaches it there");
    }

    #[test]
    fn the_banner_has_what_can_be_copied() {
        let banner = demo().banner();
        for part in ["http://127.0.0.1:4000/v1/chat/completions", "http://127.0.0.1:4001", "http://127.0.0.1:4002", "tg-demo", "Ctrl-C"] {
            assert!(banner.contains(part), "{part}: {banner}");
        }
        assert_eq!(banner.matches("    curl ").count(), 3);
    }
}
