//! Settings for the tests of the dialects.

use crate::dialect::openai::OpenAi;
use crate::dialect::openai::quirks::Quirks;
use crate::yaml::read::{Read, Reader};
use crate::yaml::tree;
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
    OpenAi { quirks: Arc::new(quirks("{}")), split_think_tags: false, has_responses: false }
}
