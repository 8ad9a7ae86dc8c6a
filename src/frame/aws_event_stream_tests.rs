//! The event stream under every way of cutting it, and damaged in every place.

use super::*;
use proptest::prelude::*;

/// A message of the smithy test vectors ("valid / all headers" reduced to one string header): checked against an
/// independent encoder, so that a mistake in `write_message` cannot hide the same mistake in the reader.
const VECTOR: &[u8] = &[
    0x00, 0x00, 0x00, 0x3d, 0x00, 0x00, 0x00, 0x20, 0x07, 0xfd, 0x83, 0x96, 0x0c, b'c', b'o', b'n', b't', b'e', b'n', b't', b'-', b't',
    b'y', b'p', b'e', 0x07, 0x00, 0x10, b'a', b'p', b'p', b'l', b'i', b'c', b'a', b't', b'i', b'o', b'n', b'/', b'j', b's', b'o', b'n',
    b'{', b'\'', b'f', b'o', b'o', b'\'', b':', b'\'', b'b', b'a', b'r', b'\'', b'}', 0x8d, 0x9c, 0x08, 0xb1,
];

fn event(kind: &str, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write_message(&mut out, &[(":event-type", kind), (":content-type", "application/json"), (":message-type", "event")], payload);
    out
}

type Seen = Vec<(String, String, String, Vec<u8>)>;

fn read(pieces: &[&[u8]]) -> (Seen, Result<(), Fault>) {
    let mut seen = Vec::new();
    let mut stream = AwsFramer::default();
    let mut each = |frame: Frame<'_>| {
        let Frame::Aws { message_type, kind, error_message, payload } = frame else { panic!("not an AWS frame") };
        seen.push((message_type.to_owned(), kind.to_owned(), error_message.to_owned(), payload.to_owned()));
        Ok(())
    };
    let mut result = Ok(());
    for piece in pieces {
        result = stream.push(piece, &mut each);
        if result.is_err() {
            return (seen, result);
        }
    }
    result = result.and(stream.finish());
    (seen, result)
}

#[test]
fn a_published_vector_is_read() {
    let (seen, end) = read(&[VECTOR]);
    assert_eq!(end, Ok(()));
    assert_eq!(seen[0].3, b"{'foo':'bar'}");
}

#[test]
fn headers_of_every_type_are_stepped_over() {
    let mut headers = Vec::new();
    for (kind, value) in [
        (0u8, vec![]),
        (1, vec![]),
        (2, vec![9]),
        (3, vec![9; 2]),
        (4, vec![9; 4]),
        (5, vec![9; 8]),
        (8, vec![9; 8]),
        (9, vec![9; 16]),
        (6, vec![0, 2, 255, 254]),
    ] {
        headers.extend_from_slice(&[1, b'x', kind]);
        headers.extend_from_slice(&value);
    }
    headers.extend_from_slice(b"\x0d:message-type\x07\x00\x05event");
    let mut message = Vec::new();
    message.extend_from_slice(&((16 + headers.len() + 2) as u32).to_be_bytes());
    message.extend_from_slice(&(headers.len() as u32).to_be_bytes());
    append_checksum(&mut message, 0);
    message.extend_from_slice(&headers);
    message.extend_from_slice(b"ok");
    append_checksum(&mut message, 0);
    let (seen, end) = read(&[&message]);
    assert_eq!(end, Ok(()));
    assert_eq!((seen[0].0.as_str(), seen[0].3.as_slice()), ("event", &b"ok"[..]));
}

#[test]
fn an_end_inside_a_message_is_truncated() {
    let whole = [event("a", b"{}"), event("b", b"{}")].concat();
    for cut in 1..whole.len() {
        let (seen, end) = read(&[&whole[..cut]]);
        let boundary = cut == whole.len() / 2;
        assert_eq!(end, if boundary { Ok(()) } else { Err(Fault::Truncated) }, "cut at {cut}");
        assert_eq!(seen.len(), usize::from(cut >= whole.len() / 2));
    }
}

#[test]
fn every_damaged_byte_is_noticed() {
    let whole = event("contentBlockDelta", br#"{"delta":{"text":"corrupt"}}"#);
    for at in 0..whole.len() {
        let mut bad = whole.clone();
        bad[at] ^= 0x10;
        let (seen, end) = read(&[&bad, &[0; 64]]);
        assert!(matches!(end, Err(Fault::Broken(_))), "byte {at}: {end:?}");
        assert!(seen.is_empty());
    }
}

#[test]
fn impossible_lengths_are_refused_before_anything_is_kept() {
    for (total, headers) in
        [(15u32, 0u32), (0, 0), (16, 1), (MAX_FRAME as u32 + 1, 0), (u32::MAX, u32::MAX), (1 << 20, MAX_HEADERS as u32 + 1)]
    {
        let mut prelude = [total.to_be_bytes(), headers.to_be_bytes()].concat();
        append_checksum(&mut prelude, 0);
        for split in [0, 5, 12] {
            let (_, end) = read(&[&prelude[..split], &prelude[split..], &[0; 8]]);
            assert!(matches!(end, Err(Fault::Broken(_))), "{total} {headers}: {end:?}");
        }
    }
}

#[test]
fn a_header_that_overruns_is_refused() {
    for headers in
        [&b"\x05ab"[..], b"\x01x\x07\x00\x09ab", b"\x01x\x0a", b"\x01x", b"\x0d:message-type\x07\x00\x01\xff", b"\x0d:message-type\x00"]
    {
        let mut message = [((16 + headers.len()) as u32).to_be_bytes(), (headers.len() as u32).to_be_bytes()].concat();
        append_checksum(&mut message, 0);
        message.extend_from_slice(headers);
        append_checksum(&mut message, 0);
        assert!(matches!(read(&[&message]).1, Err(Fault::Broken(_))), "{headers:?}");
    }
}

#[test]
fn a_large_message_leaves_no_large_buffer() {
    let whole = event("PayloadPart", &vec![7; 1 << 20]);
    let mut stream = AwsFramer::default();
    let mut count = 0;
    for piece in whole.chunks(1000) {
        stream
            .push(piece, &mut |_| {
                count += 1;
                Ok(())
            })
            .unwrap();
    }
    assert_eq!(count, 1);
    assert!(stream.partial.capacity() <= KEEP);
}

proptest! {
    #[test]
    fn any_cutting_gives_the_same_messages(payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..6), cuts in proptest::collection::vec(1usize..90, 1..40)) {
        let whole: Vec<u8> = payloads.iter().flat_map(|p| event("PayloadPart", p)).collect();
        let mut pieces = Vec::new();
        let (mut rest, mut turn) = (whole.as_slice(), cuts.iter().cycle());
        while !rest.is_empty() {
            let (now, later) = rest.split_at((*turn.next().unwrap()).min(rest.len()));
            pieces.push(now);
            rest = later;
        }
        let (seen, end) = read(&pieces);
        prop_assert_eq!(end, Ok(()));
        prop_assert_eq!(seen.iter().map(|s| s.3.clone()).collect::<Vec<_>>(), payloads);
    }
}
