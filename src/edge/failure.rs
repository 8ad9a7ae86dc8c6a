//! Pingora's errors: which failure of an attempt each of them is, and how the gateway's own failures pass through Pingora.

use super::connector::via::{PROXY_REFUSED, PROXY_UNREACHABLE};
use crate::egress::tunnel::TunnelError;
use crate::lifecycle::{AttemptFailure, Connect, Delivery};
use pingora_core::{Error, ErrorSource, ErrorType, RetryType};

const FAILED: ErrorType = ErrorType::Custom("attempt failed");
const HANDLED: ErrorType = ErrorType::Custom("attempt ended");

/// Ends an attempt with this failure. Never the client's fault, although Pingora reports on the downstream side what is
/// noticed there.
pub fn raise(failure: AttemptFailure) -> Box<Error> {
    Error::because(FAILED, "", failure)
}

/// Ends an attempt after the lifecycle has been told how it ended.
pub fn handled() -> Box<Error> {
    Error::new_up(HANDLED)
}

/// Which failure an error of the hooks or of Pingora's is; `None` for [`handled`].
pub fn of(e: &Error) -> Option<AttemptFailure> {
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
            // Pingora vouches for a retry after it could not write a head; a connection can as well close between head and body.
            None if matches!(e.retry, RetryType::ReusedOnly) || *e.etype() == ErrorType::WriteError => {
                AttemptFailure::Disconnected(Delivery::Doubtful)
            }
            None => AttemptFailure::Disconnected(Delivery::Processed),
        },
    })
}

/// Which failure an error of Pingora's is that has made no connection.
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

/// How an HTTP/2 server has certainly not processed the request.
///
/// RFC 9113, section 8.7: "The GOAWAY mechanism indicates the highest stream number that can be processed. Requests on streams
/// with higher numbers are therefore guaranteed to be safe to retry. […] The REFUSED_STREAM error code can be included in a
/// RST_STREAM frame to indicate that the stream is being closed prior to any processing having occurred."
fn unprocessed(e: &Error) -> Option<Delivery> {
    let h2 = e.root_cause().downcast_ref::<h2::Error>()?;
    if h2.is_reset() && h2.is_remote() && h2.reason() == Some(h2::Reason::REFUSED_STREAM) {
        return Some(Delivery::Refused);
    }
    // `h2` reports a GOAWAY to the streams above its last one only; the others end with the connection.
    let unseen = h2.is_go_away() && h2.is_remote();
    // Pingora reports an answer that cannot be read as another error: here the connection closed before the request.
    let unsent = h2.is_io() && *e.etype() == ErrorType::H2Error;
    (unseen || unsent).then_some(Delivery::Unprocessed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::Deadline;

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
    }
}
