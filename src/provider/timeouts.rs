//! The deadlines of an attempt: a provider's, and those that a route sets instead.

use std::time::Duration;

/// Deadlines of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection, TLS included. Default 5 s.
    pub connect: Duration,
    /// What [`Timeouts::first_byte`] returns; `None`: its default.
    pub first_byte: Option<Duration>,
    /// From the request sent to the first content of a stream. Default 120 s.
    pub first_token: Duration,
    /// Between two reads of the answer. Default 60 s.
    pub between_bytes: Duration,
    /// For the whole attempt. Default none.
    pub total: Option<Duration>,
}

impl Timeouts {
    /// `first_byte` of a stream where none is configured.
    pub const FIRST_BYTE_STREAMED: Duration = Duration::from_secs(60);
    /// `first_byte` of a buffered request where none is configured: a long generation takes minutes, and nothing of it is
    /// sent before its end.
    pub const FIRST_BYTE_BUFFERED: Duration = Duration::from_secs(600);

    /// From the request sent to the response headers of a stream, or to the first byte of the body of a buffered answer.
    pub fn first_byte(&self, stream: bool) -> Duration {
        self.first_byte.unwrap_or(if stream { Self::FIRST_BYTE_STREAMED } else { Self::FIRST_BYTE_BUFFERED })
    }

    /// The longest time that a provider may be silent, at any point of an attempt.
    pub fn longest_silence(&self, stream: bool) -> Duration {
        let silence = self.first_byte(stream).max(self.between_bytes);
        self.total.map_or(silence, |total| silence.min(total))
    }
}

/// A route's own deadlines; what is `None` is the provider's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeoutOverrides {
    /// See [`Timeouts::connect`].
    pub connect: Option<Duration>,
    /// See [`Timeouts::first_byte`].
    pub first_byte: Option<Duration>,
    /// See [`Timeouts::first_token`].
    pub first_token: Option<Duration>,
    /// See [`Timeouts::between_bytes`].
    pub between_bytes: Option<Duration>,
    /// See [`Timeouts::total`].
    pub total: Option<Duration>,
}

impl TimeoutOverrides {
    /// The provider's deadlines with the route's own in their place.
    pub fn over(&self, provider: &Timeouts) -> Timeouts {
        Timeouts {
            connect: self.connect.unwrap_or(provider.connect),
            first_byte: self.first_byte.or(provider.first_byte),
            first_token: self.first_token.unwrap_or(provider.first_token),
            between_bytes: self.between_bytes.unwrap_or(provider.between_bytes),
            total: self.total.or(provider.total),
        }
    }
}
