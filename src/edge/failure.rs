//! Maps Pingora's errors to [`AttemptFailure`], and carries the gateway's own failures through Pingora.

use super::connector::via::{PROXY_REFUSED, PROXY_UNREACHABLE};
use crate::egress::tunnel::TunnelError;
use crate::lifecycle::{AttemptFailure, Connect, Deadline, Delivery};
use pingora_core::{Error, ErrorSource, ErrorType, RetryType};

const FAILED: ErrorType = ErrorType::Custom("attempt failed");
const HANDLED: ErrorType = ErrorType::Custom("attempt ended");

/// An error that carries a failure. Its source is not evaluated: Pingora marks errors of downstream hooks as the client's.
pub fn raise(failure: AttemptFailure) -> Box<Error> {
    Error::because(FAILED, "", failure)
}

/// An error for an attempt whose failure the lifecycle has recorded.
pub fn handled() -> Box<Error> {
    Error::new_up(HANDLED)
}

/// The failure behind an error; `None` for [`handled`]. `late` returns the deadline behind a read of Pingora's that timed out.
pub fn of(e: &Error, late: impl FnOnce() -> Deadline) -> Option<AttemptFailure> {
    if let Some(failure) = e.cause.as_deref().and_then(|cause| cause.downcast_ref::<AttemptFailure>()) {
        return Some(failure.clone());
    }
    if *e.etype() == HANDLED {
        return None;
    }
    Some(match e.esource() {
        ErrorSource::Downstream => AttemptFailure::Cancelled,
        source => match unprocessed(e) {
            Some(delivery) => AttemptFailure::Disconnected(delivery),
            None if *source != ErrorSource::Upstream => AttemptFailure::Internal,
            None if *e.etype() == ErrorType::ReadTimedout => AttemptFailure::Late(late()),
            // Pingora marks a failed write of the head as retryable; the connection can also close between head and body.
            None if matches!(e.retry, RetryType::ReusedOnly) || *e.etype() == ErrorType::WriteError => {
                let is_http2 = e.root_cause().is::<h2::Error>();
                AttemptFailure::Disconnected(if is_http2 { Delivery::Unanswered } else { Delivery::Doubtful })
            }
            None => AttemptFailure::Disconnected(Delivery::Processed),
        },
    })
}

/// The failure behind an error of connecting.
pub fn of_connect(e: &Error) -> AttemptFailure {
    if let Some(delivery) = unprocessed(e) {
        return AttemptFailure::Disconnected(delivery);
    }
    AttemptFailure::Connect(match e.etype() {
        etype if *etype == PROXY_REFUSED => Connect::TunnelRefused(match e.root_cause().downcast_ref::<TunnelError>() {
            Some(TunnelError::Refused(status)) => Some(*status),
            _ => None,
        }),
        etype if *etype == PROXY_UNREACHABLE => Connect::ProxyUnreachable,
        ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout => Connect::TimedOut,
        ErrorType::TLSHandshakeFailure | ErrorType::InvalidCert | ErrorType::HandshakeError => Connect::Untrusted,
        _ => Connect::Unreachable,
    })
}

/// How an HTTP/2 server certainly did not process the request.
///
/// RFC 9113, section 8.7: "The GOAWAY mechanism indicates the highest stream number that can be processed. Requests on streams
/// with higher numbers are therefore guaranteed to be safe to retry. […] The REFUSED_STREAM error code can be included in a
/// RST_STREAM frame to indicate that the stream is being closed prior to any processing having occurred."
fn unprocessed(e: &Error) -> Option<Delivery> {
    let h2 = e.root_cause().downcast_ref::<h2::Error>()?;
    if h2.is_reset() && h2.is_remote() && h2.reason() == Some(h2::Reason::REFUSED_STREAM) {
        return Some(Delivery::Refused);
    }
    // `h2` reports a GOAWAY only to streams above its last stream id.
    let unseen = h2.is_go_away() && h2.is_remote();
    // The connection closed before the request was sent; a failed read of the response has another error type.
    let unsent = h2.is_io() && *e.etype() == ErrorType::H2Error;
    (unseen || unsent).then_some(Delivery::Unprocessed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(e: &Error) -> Option<AttemptFailure> {
        super::of(e, || Deadline::Total)
    }

    #[test]
    fn a_client_that_left_is_told_from_a_provider_that_broke_off() {
        assert_eq!(of(&Error::new_down(ErrorType::ConnectionClosed)), Some(AttemptFailure::Cancelled));
        let broke = AttemptFailure::Disconnected(Delivery::Processed);
        assert_eq!(of(&Error::new_up(ErrorType::ConnectionClosed)), Some(broke));
        // A deadline is noticed on the downstream side and is the upstream's all the same.
        for failure in [AttemptFailure::Late(Deadline::FirstByte), AttemptFailure::Drained] {
            assert_eq!(of(&raise(failure.clone()).into_down()), Some(failure));
        }
        assert_eq!(of(&handled().into_down()), None);
        assert_eq!(of(&Error::new_up(ErrorType::ReadTimedout)), Some(AttemptFailure::Late(Deadline::Total)));
    }
}
