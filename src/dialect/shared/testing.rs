//! Helpers for the tests of the dialects: settings, fixtures, streams that are cut in every way.

use crate::dialect::openai::quirks::Quirks;
use crate::dialect::openai::{OpenAi, ResponsesUse};
use crate::dialect::{Decoder, Outgoing};
use crate::frame::{Framer, Framing};
use crate::llm::event::{Event, Sink};
use crate::llm::failure::Fault;
use crate::llm::state::{Seal, Sealer};
use crate::yaml::read::{Read, Reader};
use crate::yaml::tree;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The quirks of a catalogue entry with this text.
pub fn quirks(yaml: &str) -> Quirks {
    let mut reader = Reader::new(&|_| None);
    let node = tree::parse(yaml, &mut reader.problems).unwrap();
    let quirks = Quirks::read(&node, &mut reader).unwrap();
    assert_eq!(reader.problems.into_sorted(), []);
    quirks
}

/// OpenAI's own protocol.
pub fn openai() -> OpenAi {
    OpenAi { quirks: Arc::new(quirks("{}")), split_think_tags: false, responses: ResponsesUse::default() }
}

/// Seals the states of one team.
pub fn seal() -> Seal {
    Seal::new(Arc::new(Sealer::new(&[7; 32]).unwrap()), "search".into(), "p".into())
}

/// The files with this extension in a folder of `tests/fixtures`, by name; at least one.
pub fn fixtures(folder: &str, extension: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(folder);
    let mut found: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|e| e == extension));
    found.sort();
    assert!(!found.is_empty());
    found
}

/// The JSON files of a folder of `tests/fixtures`, and what is in them.
pub fn cases(folder: &str) -> impl Iterator<Item = (PathBuf, Value)> {
    fixtures(folder, "json").into_iter().map(|path| (path.clone(), serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()))
}

/// Where recordings of real answers are: `TIDEGATE_RECORDINGS`, when it is set.
pub fn recordings() -> Option<PathBuf> {
    std::env::var_os("TIDEGATE_RECORDINGS").map(PathBuf::from).filter(|path| path.is_dir())
}

/// A request's body.
pub fn body(out: &Outgoing) -> Value {
    serde_json::from_slice(&out.body.joined()).unwrap()
}

/// Cuts bytes into pieces of 1 to 90, which only depend on the seed (a linear congruential generator, Knuth's constants).
pub fn pieces(bytes: &[u8], mut seed: u64) -> Vec<&[u8]> {
    let (mut rest, mut pieces) = (bytes, Vec::new());
    while !rest.is_empty() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (piece, after) = rest.split_at(((seed >> 33) as usize % 90 + 1).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// Reads a stream that comes in these pieces.
pub fn stream<'p>(
    framing: Framing,
    decoder: &mut dyn Decoder,
    pieces: impl IntoIterator<Item = &'p [u8]>,
    out: &mut dyn Sink,
) -> Result<(), Fault> {
    let mut framer = Framer::new(framing);
    for piece in pieces {
        framer.push(piece, &mut |frame| decoder.frame(frame, out))?;
    }
    framer.finish(&mut |frame| decoder.frame(frame, out))?;
    decoder.end(out)
}

/// Remembers every event as it is.
#[derive(Default)]
pub struct Events(pub Vec<String>);

impl Sink for Events {
    fn event(&mut self, event: Event<'_>) {
        self.0.push(format!("{event:?}"));
    }
}
