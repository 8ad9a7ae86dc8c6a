//! When a request is over: its metrics and its line in the log.

use super::exchange::Exchange;
use crate::account::EndedBy;
use crate::telemetry::access::AccessLine;
use crate::telemetry::labels::Phase;
use crate::telemetry::log::write_access;
use pingora_core::Error;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_proxy::Session;
use std::net::IpAddr;
use uuid::Uuid;

/// Writes what [`Exchange::ledger`] says.
pub fn settle(session: &Session, error: Option<&Error>, ctx: &Exchange) {
    let (live, ledger) = (&ctx.live, &ctx.ledger);
    live.metrics.request_finished(ledger);
    if ledger.ended_by == EndedBy::Client {
        live.metrics.client_disconnected(ledger.route, phase(ctx));
    }
    if let Some(e) = error.filter(|_| ledger.ended_by != EndedBy::Client) {
        log::debug!("request {}: {e}", ctx.id);
    }
    if !live.snapshot.log.access {
        return;
    }
    let call = ctx.call.as_deref();
    let attempt = call.and_then(|c| c.attempt.as_ref());
    let (mut id, mut episode) = (Uuid::encode_buffer(), Uuid::encode_buffer());
    let trace_id = ctx.trace.trace_id_hex();
    write_access(&AccessLine {
        time: live.now(),
        request_id: ctx.id.hyphenated().encode_lower(&mut id),
        trace_id: &trace_id,
        episode_id: call.map_or("", |c| c.head.episode_id.hyphenated().encode_lower(&mut episode)),
        team: ledger.team.and_then(|t| live.snapshot.teams.get(t)).map_or("", |t| &t.name),
        key: ledger.key.and_then(|k| live.snapshot.keys.get(k)).map_or("", |k| &k.id),
        route: ledger.route.and_then(|r| live.snapshot.routes.get(r)).map_or("", |r| &r.name),
        provider: attempt.map_or("", |a| &a.target.provider.name),
        upstream_model: attempt.map_or("", |a| &a.model),
        reason: ctx.reason,
        client: client_address(session, ctx),
        ledger,
    });
}

/// How far a request was when its client left.
fn phase(ctx: &Exchange) -> Phase {
    match ctx.call.as_deref() {
        None => Phase::Request,
        Some(call) if call.stage.committed() => Phase::Answer,
        Some(_) => Phase::Waiting,
    }
}

/// The peer's address, or what a trusted proxy says it is: the last address of `x-forwarded-for` that is none of the
/// trusted ones.
fn client_address(session: &Session, ctx: &Exchange) -> Option<IpAddr> {
    let Some(SocketAddr::Inet(peer)) = session.downstream_session.client_addr() else { return None };
    let peer = peer.ip();
    let trusted = |ip: &IpAddr| ctx.live.snapshot.server.trust_forwarded_for.iter().any(|net| net.contains(ip));
    if !trusted(&peer) {
        return Some(peer);
    }
    let all = session.downstream_session.req_header().headers.get_all("x-forwarded-for");
    let told: Vec<Option<IpAddr>> =
        all.iter().flat_map(|v| v.to_str().unwrap_or_default().split(',')).map(|a| a.trim().parse().ok()).collect();
    // Whoever is not trusted may have written anything to the left of its own address.
    let mut client = peer;
    for ip in told.iter().rev().map_while(|ip| *ip) {
        client = ip;
        if !trusted(&ip) {
            break;
        }
    }
    Some(client)
}
