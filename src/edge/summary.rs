//! Writes the metrics, the access log line and the spans of a finished request, and records it if it failed.

use super::exchange::Exchange;
use crate::account::EndedBy;
use crate::auth::Credential;
use crate::config::snapshot::Trust;
use crate::system;
use crate::telemetry::access::AccessLine;
use crate::telemetry::failures::Failure;
use crate::telemetry::labels::{LIMIT_STORE_FAILED, Outcome, Refused};
use crate::telemetry::log::write_access;
use crate::telemetry::spans::record::{FinishedRequest, Http, Origin};
use http::{HeaderMap, Method, Version};
use pingora_core::Error;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_proxy::Session;
use std::net::{IpAddr, Ipv6Addr};
use uuid::Uuid;

/// Settles the request and writes [`Exchange::ledger`].
pub fn write(session: &Session, error: Option<&Error>, ctx: &mut Exchange) {
    let attempts = ctx.spans.take();
    let ctx = &*ctx;
    let (live, ledger) = (&ctx.live, &ctx.ledger);
    if ctx.is_greeting {
        return;
    }
    live.metrics.request_finished(ledger, ctx.operation);
    live.metrics.attributes(&ctx.attributes, &live.snapshot.attributes, ledger);
    let phase = ctx.shared.lock().life.settle();
    if ledger.ended_by == EndedBy::Client {
        live.metrics.client_disconnected(ledger.route, phase);
    }
    if let Some(e) = error.filter(|_| ledger.ended_by != EndedBy::Client) {
        log::debug!("request {}: {e}", ctx.common.id);
    }
    let call = ctx.call.as_deref();
    let attempt = call.and_then(|c| c.attempt.as_ref());
    let reason = reason(ctx);
    let limit = ctx.limit.filter(|_| ctx.reason == Outcome::Limited.name());
    // A client that leaves is no failure, nor is an answer that the limit store did not decide on.
    if ledger.ended_by != EndedBy::Client && (ledger.status >= 400 || !ctx.reason.is_empty()) {
        let failure = Failure {
            team: ledger.team.and_then(|t| live.snapshot.tenants.teams.get(t)).map(|t| t.name.clone()),
            route: ledger.route.and_then(|r| live.snapshot.routes.get(r)).map(|r| r.name.clone()),
            provider: attempt.map(|a| a.target.provider.name.clone()),
            status: ledger.status,
            reason,
            limit,
        };
        live.failures.record(failure, system::wall_clock(), ctx.common.id);
    }
    let traced = live.tracer.as_ref().zip(attempts);
    if !live.snapshot.log.access && traced.is_none() {
        return;
    }
    let (mut id, mut episode) = (Uuid::encode_buffer(), Uuid::encode_buffer());
    let trace_id = ctx.trace.trace_id_hex();
    let line = AccessLine {
        time: system::wall_clock(),
        request_id: ctx.common.id.hyphenated().encode_lower(&mut id),
        client_request_id: ctx.common.client_id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or_default(),
        trace_id: trace_id.as_str(),
        episode_id: call.map_or("", |c| c.head.episode_id.hyphenated().encode_lower(&mut episode)),
        endpoint: ctx.endpoint,
        sticky_by: ctx.sticky_by,
        team: ledger.team.and_then(|t| live.snapshot.tenants.teams.get(t)).map_or("", |t| &t.name),
        key: ctx.who.as_ref().map_or("", |who| who.id(&live.snapshot.tenants)),
        auth: ctx.who.as_ref().and_then(|who| who.credential(&live.snapshot.tenants)).map_or("", Credential::name),
        route: ledger.route.and_then(|r| live.snapshot.routes.get(r)).map_or("", |r| &r.name),
        model: ctx.unknown_model.as_deref().unwrap_or_default(),
        provider: attempt.map_or("", |a| &a.target.provider.name),
        upstream_model: attempt.map_or("", |a| &a.model),
        passed_over: ctx.passed_over.text(),
        tried: ctx.tried.text(),
        reason,
        limit,
        client: client_address(session, ctx),
        attributes: &ctx.attributes,
        ledger,
    };
    if live.snapshot.log.access {
        write_access(&line);
    }
    if let Some((tracer, attempts)) = traced {
        let origin = Origin {
            trace: ctx.trace,
            trace_state: ctx.trace_state.clone(),
            arrived: ctx.arrived,
            http: http(session),
            operation: ctx.operation,
            model: call.map(|call| &*call.head.model),
        };
        tracer.record(Box::new(FinishedRequest::new(&line, origin, attempts)));
    }
}

/// The client's request, for its span.
fn http(session: &Session) -> Http {
    let session = &session.downstream_session;
    let request = session.req_header();
    let is_tls = session.digest().is_some_and(|digest| digest.ssl_digest.is_some());
    Http {
        // Semantic conventions for HTTP spans: `_OTHER` for a method that is not among the known ones.
        method: match request.method {
            Method::POST => "POST",
            Method::GET => "GET",
            Method::HEAD => "HEAD",
            Method::OPTIONS => "OPTIONS",
            Method::PUT => "PUT",
            Method::PATCH => "PATCH",
            Method::DELETE => "DELETE",
            Method::TRACE => "TRACE",
            Method::CONNECT => "CONNECT",
            _ => "_OTHER",
        },
        scheme: if is_tls { "https" } else { "http" },
        version: match request.version {
            Version::HTTP_10 => "1.0",
            Version::HTTP_2 => "2",
            _ => "1.1",
        },
    }
}

/// `reason` of the access log; never empty for a status of 400 or above.
fn reason(ctx: &Exchange) -> &'static str {
    match ctx.reason {
        "" if ctx.call.as_deref().is_some_and(|call| call.permit.store_failed()) => LIMIT_STORE_FAILED,
        "" if ctx.ledger.status >= 400 => Refused::of_status(ctx.ledger.status).name(),
        reason => reason,
    }
}

fn client_address(session: &Session, ctx: &Exchange) -> Option<IpAddr> {
    let peer = match session.downstream_session.client_addr() {
        Some(SocketAddr::Inet(peer)) => Some(peer.ip()),
        _ => None,
    };
    client(peer, &session.downstream_session.req_header().headers, &ctx.live.snapshot.server.trust_forwarded_for)
}

/// The peer's address or, from a trusted proxy, the last untrusted address in `x-forwarded-for`. `None` for a Unix socket whose
/// peer is not trusted or sends no address.
fn client(peer: Option<IpAddr>, headers: &HeaderMap, trust: &Trust) -> Option<IpAddr> {
    let peer = peer.map(|peer| peer.to_canonical());
    if !trust.trusts(peer) {
        return peer;
    }
    let all = headers.get_all("x-forwarded-for").iter().flat_map(|v| v.to_str().unwrap_or_default().split(','));
    let forwarded: Vec<Option<IpAddr>> = all.map(forwarded_address).collect();
    // Everything to the left of an untrusted address may be forged.
    let mut client = peer;
    for ip in forwarded.iter().rev().map_while(|ip| *ip) {
        client = Some(ip);
        if !trust.trusts(client) {
            break;
        }
    }
    client
}

/// One member of `x-forwarded-for`: an address with an optional port. An IPv6 address with a port has brackets (RFC 7239,
/// section 6); some proxies write brackets without a port.
fn forwarded_address(member: &str) -> Option<IpAddr> {
    let member = member.trim();
    let bracketed = || member.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    let with_port = || member.parse::<std::net::SocketAddr>().ok().map(|address| address.ip());
    member.parse().ok().or_else(with_port).or_else(bracketed).map(|ip: IpAddr| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn an_ipv4_address_is_trusted_in_either_form() {
        let trust = Trust { networks: vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()], unix: true };
        for (peer, told, expected) in [
            ("10.0.0.1", "1.2.3.4", "1.2.3.4"),
            ("::ffff:10.0.0.1", "1.2.3.4", "1.2.3.4"),
            ("::ffff:10.0.0.1", "9.9.9.9, ::ffff:1.2.3.4, ::ffff:10.0.0.2", "1.2.3.4"),
            ("::ffff:1.2.3.4", "5.6.7.8", "1.2.3.4"),
            ("2001:db8::1", "5.6.7.8, junk, 10.0.0.3", "10.0.0.3"),
            ("2001:db9::1", "5.6.7.8", "2001:db9::1"),
            ("10.0.0.1", "1.2.3.4:55555", "1.2.3.4"),
            ("10.0.0.1", "9.9.9.9:1, [2001:db9::7]:443, 10.0.0.2:80", "2001:db9::7"),
            ("10.0.0.1", "[2001:db9::7]", "2001:db9::7"),
            ("10.0.0.1", "[::ffff:1.2.3.4]:80, [2001:db8::2]", "1.2.3.4"),
            ("10.0.0.1", "[1.2.3.4], 10.0.0.2", "10.0.0.2"),
            ("10.0.0.1", "1.2.3.4:99999", "10.0.0.1"),
            ("10.0.0.1", "unknown", "10.0.0.1"),
            ("a Unix socket", "9.9.9.9, 1.2.3.4, 10.0.0.2", "1.2.3.4"),
            ("a Unix socket", "unknown", "none"),
        ] {
            let headers = HeaderMap::from_iter([(http::HeaderName::from_static("x-forwarded-for"), HeaderValue::from_static(told))]);
            assert_eq!(client(peer.parse().ok(), &headers, &trust), expected.parse::<IpAddr>().ok(), "{peer}, {told}");
        }
        let headers = HeaderMap::from_iter([(http::HeaderName::from_static("x-forwarded-for"), HeaderValue::from_static("1.2.3.4"))]);
        assert_eq!(client(None, &headers, &Trust { unix: false, ..trust }), None);
    }
}
