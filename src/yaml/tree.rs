//! YAML as a tree that remembers where everything stood.
//!
//! Typed deserialisers stop at the first error; an operator wants all of them. So the file becomes a [`Node`] tree
//! first, and [`crate::yaml::read`] takes it apart with a list of problems at hand.

use super::problem::{Position, Problems};
use granit_parser::{Event, Marker, Parser, ScalarStyle, Span};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// Deepest nesting that is accepted.
pub const MAX_DEPTH: usize = 64;
/// Most nodes of a file, what aliases repeat included.
pub const MAX_NODES: usize = 4_000_000;

/// From how many keys on a mapping is no longer looked through for duplicates.
const SMALL_MAP: usize = 16;
const TOO_DEEP: &str = "this is nested too deeply";

/// A value and where it begins.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its first character; of a block collection, the first character of its first entry.
    pub at: Position,
    /// What it is.
    pub value: Value,
}

/// What a node is.
#[derive(Clone, Debug)]
pub enum Value {
    /// Text, and whether it stood there without quotes (so that it may be a number, a flag or null).
    Scalar(String, bool),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order of the file, without duplicates.
    Map(Vec<(Key, Node)>),
}

/// A mapping's key.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its first character.
    pub at: Position,
    /// Its text.
    pub text: String,
}

/// A key as a message shows it. Where no space follows the colon, YAML reads `api_key:sk-1` as one key without a value; so
/// only what stands before a colon or an equals sign is repeated, and of a key `without_value` its first word.
pub fn shown_key(text: &str, without_value: bool) -> Cow<'_, str> {
    match text.split_once(|c: char| matches!(c, ':' | '=') || without_value && c.is_whitespace()) {
        Some((name, _)) => format!("{name}…").into(),
        None => text.into(),
    }
}

impl Node {
    /// A scalar without quotes.
    pub fn plain(text: &str, at: Position) -> Self {
        Self { at, value: Value::Scalar(text.to_owned(), true) }
    }

    /// Whether it is YAML's null, which counts as absent.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(text, true) if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The value of a key of a mapping; `None` where it is null, which counts as absent.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entries().iter().find(|(known, _)| known.text == key).map(|(_, node)| node).filter(|node| !node.is_null())
    }

    /// The entries of a mapping; none of anything else.
    pub fn entries(&self) -> &[(Key, Self)] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The items of a list; none of anything else.
    pub fn items(&self) -> &[Self] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// How many nodes it has, and how deep they are nested.
    fn extent(&self) -> (usize, usize) {
        let sum = |(size, depth): (usize, usize), node: &Node| {
            let (more, deeper) = node.extent();
            (size + more, depth.max(deeper + 1))
        };
        match &self.value {
            Value::Scalar(..) => (1, 0),
            Value::List(items) => items.iter().fold((1, 1), sum),
            Value::Map(entries) => entries.iter().map(|(_, node)| node).fold((1, 1), sum),
        }
    }
}

/// A collection that is still open.
struct Frame {
    at: Position,
    anchor: usize,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map { entries: Vec<(Key, Node)>, seen: HashSet<String>, key: Option<Pending> },
}

/// A key whose value has not come yet.
enum Pending {
    Key(Key),
    /// A key that was refused; its value is dropped.
    Refused,
}

/// Reads a document. `None` where it is no YAML at all, which is one problem.
pub fn parse(text: &str, problems: &mut Problems) -> Option<Node> {
    let options = granit_parser::options! { flow_nesting_limit: MAX_DEPTH, block_nesting_limit: MAX_DEPTH };
    let mut builder = Builder { stack: Vec::new(), anchors: HashMap::new(), nodes: 0, root: None };
    let mut documents = 0;
    for step in Parser::new_from_str_with_options(text, options) {
        let (event, span) = match step {
            Ok(step) => step,
            Err(error) => {
                let open = builder.stack.last().map(|frame| frame.at);
                let (at, message) = crate::yaml::syntax::explain(text, open, position(error.marker()), &error.info());
                problems.add(at, message);
                return None;
            }
        };
        let at = position(&span.start);
        if matches!(event, Event::DocumentStart(..)) {
            documents += 1;
        }
        if documents > 1 {
            problems.add(at, "a second YAML document begins here; a configuration is one document");
            return None;
        }
        if let Err(message) = builder.event(event, span, problems) {
            problems.add(at, message);
            return None;
        }
    }
    Some(builder.root.unwrap_or_else(|| Node::plain("", Position::START)))
}

fn position(marker: &Marker) -> Position {
    Position { line: marker.line().max(1), column: marker.col() + 1 }
}

struct Builder {
    stack: Vec<Frame>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    root: Option<Node>,
}

impl Builder {
    /// Takes one event. An `Err` ends the reading.
    fn event(&mut self, event: Event<'_>, span: Span, problems: &mut Problems) -> Result<(), &'static str> {
        let at = position(&span.start);
        let (node, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                if tag.is_some_and(|tag| tag.is_custom()) {
                    problems.add(at, "YAML tags have no meaning here");
                }
                (Node { at, value: Value::Scalar(text.into_owned(), style == ScalarStyle::Plain) }, anchor)
            }
            Event::Alias(id) => {
                let node = self.anchors.get(&id).cloned().ok_or("this alias stands inside the value it names")?;
                let (size, depth) = node.extent();
                self.nodes += size;
                if self.stack.len() + depth > MAX_DEPTH {
                    return Err(TOO_DEEP);
                }
                (node, 0)
            }
            Event::SequenceStart(_, anchor, _) => return self.open(at, anchor, Content::List(Vec::new())),
            Event::MappingStart(_, anchor, _) => {
                return self.open(at, anchor, Content::Map { entries: Vec::new(), seen: HashSet::new(), key: None });
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(frame) = self.stack.pop() else { return Ok(()) };
                let value = match frame.content {
                    Content::List(items) => Value::List(items),
                    Content::Map { entries, .. } => Value::Map(entries),
                };
                (Node { at: frame.at, value }, frame.anchor)
            }
            _ => return Ok(()),
        };
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err("the configuration is too large");
        }
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        self.place(node, problems);
        Ok(())
    }

    fn open(&mut self, at: Position, anchor: usize, content: Content) -> Result<(), &'static str> {
        if self.stack.len() >= MAX_DEPTH {
            return Err(TOO_DEEP);
        }
        self.stack.push(Frame { at, anchor, content });
        Ok(())
    }

    /// Puts a finished node where it belongs.
    fn place(&mut self, node: Node, problems: &mut Problems) {
        match self.stack.last_mut().map(|frame| &mut frame.content) {
            None => self.root = Some(node),
            Some(Content::List(items)) => items.push(node),
            Some(Content::Map { entries, seen, key }) => match key.take() {
                Some(Pending::Key(name)) => entries.push((name, node)),
                Some(Pending::Refused) => {}
                None => *key = Some(accept_key(node, entries, seen, problems)),
            },
        }
    }
}

fn accept_key(node: Node, entries: &[(Key, Node)], seen: &mut HashSet<String>, problems: &mut Problems) -> Pending {
    let Value::Scalar(text, plain) = node.value else {
        problems.add(node.at, "a key must be plain text");
        return Pending::Refused;
    };
    if plain && text == "<<" {
        problems.add(node.at, "merge keys (`<<`) are not supported; repeat the value or use an alias for the whole of it");
        return Pending::Refused;
    }
    if is_known(&text, entries, seen) {
        problems.add(node.at, format!("duplicate key `{text}`"));
        return Pending::Refused;
    }
    Pending::Key(Key { at: node.at, text })
}

/// Whether a mapping has this key. Small ones, which most are, are looked through; large ones get a set.
fn is_known(text: &str, entries: &[(Key, Node)], seen: &mut HashSet<String>) -> bool {
    if entries.len() < SMALL_MAP {
        return entries.iter().any(|(key, _)| key.text == text);
    }
    if seen.is_empty() {
        seen.extend(entries.iter().map(|(key, _)| key.text.clone()));
    }
    !seen.insert(text.to_owned())
}
