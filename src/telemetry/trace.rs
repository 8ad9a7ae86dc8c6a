//! W3C trace context. Requests to providers carry the client's trace id and a span id of the gateway.

use http::HeaderValue;

/// The trace of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// 0 only before the request's headers have been read.
    pub trace_id: u128,
    /// The client's span; 0 for a trace that begins here.
    pub parent_id: u64,
    /// Span id of the gateway.
    pub span_id: u64,
    /// `trace-flags`: [`SAMPLED`] and [`RANDOM`].
    pub flags: u8,
}

/// Bit of `trace-flags`: the trace is recorded.
const SAMPLED: u8 = 1;
/// Bit of `trace-flags`: at least the last seven bytes of the trace id are random (W3C Trace Context level 2, section 3.2.2.5.2).
const RANDOM: u8 = 2;

impl Trace {
    /// Continues the trace of a `traceparent` header, or starts one with ids from `random`, which is sampled if `sampling`
    /// takes it.
    ///
    /// W3C Trace Context section 3.2: `version "-" trace-id "-" parent-id "-" trace-flags`, lower-case hex, ids not all
    /// zero. An invalid header is ignored; of a later version the fields of version 00 are read, of its flags only "sampled". Flags
    /// that version 00 does not define are "set to zero". `random` makes the id of a trace, so that its flag is set.
    pub fn continue_or_begin(header: Option<&str>, sampling: Option<Sampling>, mut random: impl FnMut() -> u64) -> Self {
        let span_id = random().max(1);
        match header.and_then(parse) {
            Some((trace_id, parent_id, flags)) => Self { trace_id, parent_id, span_id, flags },
            None => {
                let trace_id = (u128::from(random()) << 64 | u128::from(random())).max(1);
                Self { trace_id, parent_id: 0, span_id, flags: RANDOM | sampled(sampling, trace_id) }
            }
        }
    }

    /// The trace of a request that is not authenticated: whether it is sampled is not its client's to say, neither by the flag nor
    /// by the choice of a trace id. The gateway's own span id decides where the client has made the trace.
    pub fn of_a_stranger(self, sampling: Option<Sampling>) -> Self {
        match self.parent_id {
            0 => self,
            _ => Self { flags: self.flags & !SAMPLED | sampled(sampling, self.span_id.into()), ..self },
        }
    }

    /// Whether its spans are recorded, where spans are.
    pub const fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
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

/// The flag of a trace whose random id is taken or not.
fn sampled(sampling: Option<Sampling>, id: u128) -> u8 {
    if sampling.is_some_and(|sampling| sampling.takes(id)) { SAMPLED } else { 0 }
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

/// Which of the traces that begin here are sampled: a share of them, by the trace id, so that every node decides alike.
///
/// The rule of OpenTelemetry's probability sampling (OTEP 235): a trace whose last 56 bits are at least the rejection
/// threshold, (1 - share) * 2^56, is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    threshold: u64,
}

impl Sampling {
    /// Of a share in millionths, at most a million.
    pub fn of_millionths(share: u32) -> Self {
        let rejected = u128::from(MILLION.saturating_sub(share));
        Self { threshold: ((rejected << RANDOM_BITS) / u128::from(MILLION)) as u64 }
    }

    const fn takes(self, id: u128) -> bool {
        (id as u64) & ((1 << RANDOM_BITS) - 1) >= self.threshold
    }
}

const MILLION: u32 = 1_000_000;
/// The low bits of a trace id that are random (W3C Trace Context level 2, section 3.2.2.3.1).
const RANDOM_BITS: u32 = 56;

/// The client's `tracestate`, for the upstream request. `None` where there is none, or its `traceparent` is invalid.
///
/// W3C Trace Context section 3.3: several headers are one list; it is not sent without a valid `traceparent`; 512 characters
/// should be passed on. Longer lists are dropped as a whole.
pub fn state<'a>(trace: &Trace, headers: impl Iterator<Item = &'a HeaderValue>) -> Option<HeaderValue> {
    if trace.parent_id == 0 {
        return None;
    }
    let mut lists = headers.filter(|list| !list.is_empty());
    let first = lists.next()?.clone();
    let whole = lists.try_fold(first, |list, more| HeaderValue::from_bytes(&[list.as_bytes(), b",", more.as_bytes()].concat()).ok())?;
    (whole.len() <= MAX_STATE && whole.to_str().is_ok()).then_some(whole)
}

/// Longest `tracestate` that is passed on, in bytes.
pub const MAX_STATE: usize = 512;

fn parse(header: &str) -> Option<(u128, u64, u8)> {
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
    let parent_id = u64::from_str_radix(parent, 16).ok().filter(|id| *id != 0)?;
    let known = if version == "00" { SAMPLED | RANDOM } else { SAMPLED };
    Some((trace_id, parent_id, u8::from_str_radix(flags, 16).ok()? & known))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn header(value: Option<&str>, sampling: Option<Sampling>, random: u64) -> String {
        String::from_utf8(Trace::continue_or_begin(value, sampling, || random).header().to_vec()).unwrap()
    }

    #[test]
    fn the_trace_goes_on_under_a_new_span() {
        assert_eq!(header(Some(PARENT), None, 7), "00-0af7651916cd43dd8448eb211c80319c-0000000000000007-01");
        assert_eq!(Trace::continue_or_begin(Some(PARENT), None, || 7).parent_id, 0xb7ad_6b71_6920_3331);
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
            assert_eq!(header(Some(bad), None, 5), "00-00000000000000050000000000000005-0000000000000005-02", "{bad}");
        }
    }

    #[test]
    fn flags_that_are_not_defined_are_not_passed_on() {
        for (version, flags, passed) in
            [("00", "00", "00"), ("00", "02", "02"), ("00", "ff", "03"), ("00", "fc", "00"), ("01", "ff", "01"), ("cc", "02", "00")]
        {
            let parent = format!("{version}{}{flags}", PARENT.get(2..53).unwrap());
            assert!(header(Some(&parent), None, 7).ends_with(&format!("-{passed}")), "{parent}");
        }
        let later = format!("01{}-more", PARENT.get(2..).unwrap());
        assert!(header(Some(&later), None, 7).ends_with("-01"));
    }

    #[test]
    fn a_stranger_does_not_decide_what_is_sampled() {
        let (all, none, half) = (Sampling::of_millionths(1_000_000), Sampling::of_millionths(0), Sampling::of_millionths(500_000));
        // The id is one that every share takes.
        let parent = "00-ffffffffffffffffffffffffffffffff-b7ad6b7169203331-03";
        let stranger = |parent, sampling, random| Trace::continue_or_begin(parent, sampling, || random).of_a_stranger(sampling);
        let unsampled = PARENT.replace("-01", "-00");
        for (parent, sampling, random, sampled) in [
            (Some(parent), Some(none), u64::MAX, false),
            (Some(parent), Some(half), 1, false),
            (Some(parent), Some(half), u64::MAX, true),
            (Some(parent), None, u64::MAX, false),
            (Some(&*unsampled), Some(all), 1, true),
            (None, Some(half), u64::MAX, true),
            (None, Some(half), 1, false),
            (None, Some(none), u64::MAX, false),
        ] {
            assert_eq!(stranger(parent, sampling, random).is_sampled(), sampled, "{parent:?} {sampling:?} {random}");
        }
        let trace = stranger(Some(parent), Some(none), 7);
        assert_eq!((trace.trace_id, trace.span_id, trace.flags), (u128::MAX, 7, RANDOM), "the trace is the client's all the same");
    }

    #[test]
    fn a_clients_flag_decides_and_the_share_where_there_is_none() {
        let (all, none) = (Sampling::of_millionths(1_000_000), Sampling::of_millionths(0));
        let unsampled = PARENT.replace("-01", "-00");
        for (parent, sampling, sampled) in [
            (Some(PARENT), Some(none), true),
            (Some(&*unsampled), Some(all), false),
            (Some("junk"), Some(all), true),
            (None, Some(all), true),
            (None, Some(none), false),
            (None, None, false),
        ] {
            for random in [0, 1, u64::MAX] {
                let trace = Trace::continue_or_begin(parent, sampling, || random);
                assert_eq!(trace.is_sampled(), sampled, "{parent:?} {sampling:?}");
            }
        }
    }

    #[test]
    fn a_share_of_all_ids_is_taken() {
        let mut random = fastrand::Rng::with_seed(1);
        for share in [10_000, 250_000, 999_000] {
            let sampling = Sampling::of_millionths(share);
            let taken = (0..100_000).filter(|_| sampling.takes(random.u128(..))).count() as f64;
            assert!((taken / 100_000.0 - f64::from(share) / 1e6).abs() < 0.005, "{share}: {taken}");
        }
        // Decided by the last seven bytes alone.
        let half = Sampling::of_millionths(500_000);
        assert!(half.takes(0x80_0000_0000_0000) && !half.takes(u128::MAX ^ 0x80_0000_0000_0000));
    }

    #[test]
    fn a_tracestate_goes_with_its_traceparent() {
        let trace = Trace::continue_or_begin(Some(PARENT), None, || 7);
        let passed = |trace: &Trace, lists: &[&str]| {
            let values: Vec<_> = lists.iter().map(|list| HeaderValue::from_str(list).unwrap()).collect();
            state(trace, values.iter()).map(|list| list.to_str().unwrap().to_owned())
        };
        assert_eq!(passed(&trace, &["a=1", "", "b=2"]).as_deref(), Some("a=1,b=2"));
        assert_eq!(passed(&trace, &[]), None);
        assert_eq!(passed(&trace, &[&"x".repeat(MAX_STATE + 1)]), None);
        assert_eq!(passed(&Trace { parent_id: 0, ..trace }, &["a=1"]), None);
    }
}
