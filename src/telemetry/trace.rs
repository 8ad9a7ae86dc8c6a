//! W3C trace context. Requests to providers carry the client's trace id and a span id of the gateway.

/// The trace of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Never 0.
    pub trace_id: u128,
    /// Span id of the gateway.
    pub span_id: u64,
    /// `trace-flags`: bit 0 is "sampled".
    pub flags: u8,
}

impl Trace {
    /// Continues the trace of a `traceparent` header, or starts one with ids from `random`.
    ///
    /// W3C Trace Context section 3.2: `version "-" trace-id "-" parent-id "-" trace-flags`, lower-case hex, ids not all
    /// zero. An invalid header is ignored; of a later version the fields of version 00 are read.
    pub fn continue_or_begin(header: Option<&str>, mut random: impl FnMut() -> u64) -> Self {
        let span_id = random().max(1);
        match header.and_then(parse) {
            Some((trace_id, flags)) => Self { trace_id, span_id, flags },
            None => Self { trace_id: (u128::from(random()) << 64 | u128::from(random())).max(1), span_id, flags: 0 },
        }
    }

    /// The trace id in hex.
    pub fn trace_id_hex(&self) -> TraceId {
        let mut text = [0; 32];
        hex(&mut text, &self.trace_id.to_be_bytes());
        TraceId(text)
    }

    /// `traceparent` for the upstream request.
    pub fn header(&self) -> [u8; 55] {
        let mut text = *b"00-................................-................-..";
        for (at, bytes) in [(3, &self.trace_id.to_be_bytes()[..]), (36, &self.span_id.to_be_bytes()), (53, &[self.flags])] {
            hex(text.get_mut(at..).unwrap_or_default(), bytes);
        }
        text
    }
}

/// A trace id in lower-case hex.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId([u8; 32]);

impl TraceId {
    /// As text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// Writes `bytes` in lower-case hex to the beginning of `out`.
fn hex(out: &mut [u8], bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |n: u8| DIGITS.get(usize::from(n)).copied().unwrap_or(b'0');
    for (pair, b) in out.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
        *pair = [digit(b >> 4), digit(b & 15)];
    }
}

fn parse(header: &str) -> Option<(u128, u8)> {
    let mut parts = header.trim().split('-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |s: &str, n: usize| s.len() == n && s.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if !hex(version, 2)
        || version == "ff"
        || !hex(trace, 32)
        || !hex(parent, 16)
        || !hex(flags, 2)
        || (version == "00" && parts.next().is_some())
    {
        return None;
    }
    let trace_id = u128::from_str_radix(trace, 16).ok().filter(|id| *id != 0)?;
    u64::from_str_radix(parent, 16).ok().filter(|id| *id != 0)?;
    Some((trace_id, u8::from_str_radix(flags, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trace_goes_on_under_a_new_span() {
        let t = Trace::continue_or_begin(Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), || 7);
        assert_eq!(&t.header(), b"00-0af7651916cd43dd8448eb211c80319c-0000000000000007-01");
    }

    #[test]
    fn what_is_no_traceparent_begins_a_trace() {
        for bad in [
            "",
            "00-0-0-0",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-extra",
        ] {
            let t = Trace::continue_or_begin(Some(bad), || 5);
            assert_eq!(&t.header(), b"00-00000000000000050000000000000005-0000000000000005-00", "{bad}");
        }
    }
}
