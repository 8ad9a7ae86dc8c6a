//! The framers: the same frames wherever bytes are cut, and an end to every buffer.

use crate::corpus;
use crate::engine::{fuzz, pieces};
use crate::mutate::Mutator;
use tidegate::frame::aws_event_stream::MAX_FRAME;
use tidegate::frame::{Frame, Framer, Framing, sse};
use tidegate::llm::failure::Fault;

fn frames(framing: Framing, pieces: &[&[u8]]) -> (Vec<String>, Result<(), Fault>) {
    let (mut framer, mut seen) = (Framer::new(framing), Vec::new());
    let mut each = |frame: Frame<'_>| {
        seen.push(format!("{frame:?}"));
        Ok(())
    };
    let mut result = pieces.iter().try_for_each(|piece| framer.push(piece, &mut each));
    if result.is_ok() {
        result = framer.finish(&mut each);
    }
    (seen, result)
}

fn cut_anywhere(name: &str, framing: Framing, mutator: Mutator, corpus: &[Vec<u8>]) {
    fuzz(name, corpus, mutator, 8000, |input, rng| {
        let whole = frames(framing, &[input]);
        let cut = pieces(rng, input);
        assert_eq!(frames(framing, &cut), whole, "cut at {:?}", cut.iter().map(|piece| piece.len()).collect::<Vec<_>>());
    });
}

#[test]
fn server_sent_events_are_the_same_wherever_they_are_cut() {
    cut_anywhere("frame/sse", Framing::Sse, Mutator::Sse, &[corpus::streams("openai"), corpus::streams("anthropic")].concat());
}

#[test]
fn aws_messages_are_the_same_wherever_they_are_cut() {
    cut_anywhere("frame/aws", Framing::AwsEventStream, Mutator::Aws, &corpus::streams("bedrock"));
}

#[test]
fn events_inside_of_aws_messages_are_the_same_wherever_they_are_cut() {
    let corpus = [corpus::streams("sagemaker"), corpus::streams("tgi")].concat();
    cut_anywhere("frame/aws-sse", Framing::AwsSse, Mutator::AwsSse, &corpus);
}

/// Pushes `piece` after `first` until the framer refuses; how many bytes it took.
fn taken(framing: Framing, first: &[u8], piece: &[u8]) -> usize {
    let mut framer = Framer::new(framing);
    let mut each = |_: Frame<'_>| Ok(());
    let mut taken = 0;
    framer.push(first, &mut each).unwrap();
    while framer.push(piece, &mut each).is_ok() {
        taken += piece.len();
        assert!(taken < 64 << 20, "{framing:?} never refuses");
    }
    taken
}

#[test]
fn nothing_is_kept_beyond_its_bound() {
    let piece = vec![b'x'; 1 << 20];
    assert!(taken(Framing::Sse, b"data: ", &piece) <= sse::MAX_EVENT);
    assert!(taken(Framing::Sse, b"", &b"data: x\n".repeat(1 << 16)) <= sse::MAX_EVENT, "many lines");
    // The longest message that may be announced, and what a longer one comes to.
    let prelude = |total: u32, headers: u32| {
        let mut out = [total.to_be_bytes(), headers.to_be_bytes()].concat();
        out.extend_from_slice(&crc32fast::hash(&out).to_be_bytes());
        out
    };
    for framing in [Framing::AwsEventStream, Framing::AwsSse] {
        assert!(taken(framing, &prelude(MAX_FRAME as u32, 0), &piece) <= MAX_FRAME);
        for wrong in
            [prelude(MAX_FRAME as u32 + 1, 0), prelude(u32::MAX, 0), prelude(1 << 20, (128 << 10) + 1), prelude(16, 1), prelude(0, 0)]
        {
            assert!(frames(framing, &[&wrong]).1.is_err(), "{wrong:?}");
        }
    }
    let part = crate::wire::join(&[crate::wire::Message::new("PayloadPart", &piece)]);
    assert!(taken(Framing::AwsSse, b"", &part) <= sse::MAX_EVENT + (1 << 20), "an inner event without end");
    let brace = crate::wire::join(&[crate::wire::Message::new("PayloadPart", b"{")]);
    assert!(taken(Framing::AwsSse, &brace, &part) <= sse::MAX_EVENT + (1 << 20), "a line without end");
}
