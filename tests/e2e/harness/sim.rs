//! Simulators in the test's own process, so that what arrived there can be asked for.

use super::until;
use std::net::{Ipv4Addr, SocketAddr};
use tidegate::simulate::{Ending, Handle, Seen, Simulator};

/// A simulator that serves as long as the test's runtime.
#[derive(Clone)]
pub struct Sim(Handle);

impl Sim {
    /// Starts one on a free port.
    pub async fn start() -> Self {
        let simulator = Simulator::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
        let handle = simulator.handle();
        tokio::spawn(simulator.serve(std::future::pending::<()>()));
        Self(handle)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.0.local_addr()
    }

    /// The configuration of a provider that it plays.
    pub fn provider(&self) -> String {
        format!("{{ kind: vllm, base_url: \"http://{}/vllm/v1\" }}", self.address())
    }

    /// A configuration with these keys of `server` and a route `r` to it with more keys.
    pub fn config(&self, server: &str, route: &str) -> String {
        super::config(server, ("sim", &self.provider()), "r", route)
    }

    /// What arrived.
    pub fn seen(&self) -> Vec<Seen> {
        self.0.seen()
    }

    /// Requests so far.
    pub fn count(&self) -> usize {
        self.0.seen().len()
    }

    /// The last request for a model, once it is there whole.
    pub async fn request_for(&self, model: &str) -> Seen {
        let is = |seen: &Seen| seen.body.json().is_some_and(|body| body["model"] == model);
        until(&format!("a request for {model}"), async || self.0.seen().into_iter().rev().find(is)).await
    }

    /// Awaits the end of the last request for a model.
    pub async fn ending(&self, model: &str) -> Ending {
        until(&format!("the end of a request for {model}"), async || {
            Some(self.request_for(model).await.ending).filter(|ending| *ending != Ending::Open)
        })
        .await
    }
}
