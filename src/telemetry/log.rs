//! stub
#![allow(missing_docs)]
use crate::account::Ledger;
use std::net::IpAddr;
use uuid::Uuid;
#[derive(Clone)]
pub struct AccessLog;
impl Default for AccessLog {
    fn default() -> Self {
        Self
    }
}
impl AccessLog {
    pub fn new() -> Self {
        Self
    }
    pub fn write(&self, _: &AccessLine<'_>) {}
}
pub fn flush() {}
pub struct AccessLine<'a> {
    pub request_id: Uuid,
    pub trace_id: u128,
    pub team: &'a str,
    pub key: &'a str,
    pub route: &'a str,
    pub provider: &'a str,
    pub upstream_model: &'a str,
    pub episode_id: Option<Uuid>,
    pub client: Option<IpAddr>,
    pub ledger: &'a Ledger,
}
pub fn dropped() -> u64 {
    0
}
pub fn start(_: &crate::config::snapshot::Log) {}
