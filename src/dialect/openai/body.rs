//! The new body as a short list of what its members become, applied to the client's bytes at the end.
//!
//! Members are named, not found: a later word on a member replaces an earlier one, and whether it is a replacement, an
//! insertion or nothing at all shows only against the client's body. So a route's override, a rename and a constraint
//! cannot make a member appear twice.

use crate::json::slices::Slices;
use crate::json::splice::Splice;
use crate::json::write::quoted;
use crate::llm::envelope::{ChatRequest, is_gateways};
use crate::llm::field::Field;
use smallvec::SmallVec;
use std::borrow::Cow;

/// A member by its name.
#[derive(Debug, PartialEq, Eq)]
pub enum Name<'a> {
    /// A field that the gateway knows.
    Known(Field),
    /// Any other.
    Other(Cow<'a, str>),
}

impl Name<'_> {
    fn text(&self) -> &str {
        match self {
            Self::Known(field) => field.name(),
            Self::Other(name) => name,
        }
    }
}

impl From<Field> for Name<'_> {
    fn from(field: Field) -> Self {
        Self::Known(field)
    }
}

impl<'a> From<&'a str> for Name<'a> {
    fn from(name: &'a str) -> Self {
        Cow::Borrowed(name).into()
    }
}

impl<'a> From<Cow<'a, str>> for Name<'a> {
    fn from(name: Cow<'a, str>) -> Self {
        Field::of(name.as_bytes()).map_or(Self::Other(name), Self::Known)
    }
}

/// A member's name and new value; `None` takes the member out.
type Change<'a> = (Name<'a>, Option<Cow<'a, [u8]>>);

/// What the members of the new body become; those that are not named stay as they came.
pub struct Body<'a> {
    request: ChatRequest<'a>,
    members: SmallVec<[Change<'a>; 8]>,
    first_message: Option<Vec<u8>>,
}

impl<'a> Body<'a> {
    /// The client's body as it came.
    pub fn new(request: ChatRequest<'a>) -> Self {
        Self { request, members: SmallVec::new(), first_message: None }
    }

    /// Which of the client's members stay, and what the route's settings add: those that are `sent`, which is asked with
    /// the known field of that name, if there is one. `closed`: the provider takes no null for an absent value. `fixed`:
    /// members that settings cannot change.
    pub fn choose(&mut self, closed: bool, fixed: &[&str], sent: impl Fn(Option<Field>, &str) -> bool) {
        let (bytes, request) = (self.request.parsed.body(), self.request);
        for (field, member) in request.parsed.members() {
            let name = match field {
                Some(field) => Cow::Borrowed(field.name()),
                None => request.parsed.name_of(member),
            };
            // A null of a known field is absence; OpenAI's schema allows it for some of them only.
            let null = (closed || field.is_some()) && member.value.of(bytes) == b"null";
            let refused = field.is_some_and(|field| request.params.adjustments.without.contains(field));
            if null || refused || is_gateways(&name) || !sent(field, &name) {
                self.remove(field.map_or(Name::Other(name), Name::Known));
            }
        }
        // A null of a known field counts as absent; what it means in an unknown one is not known.
        let missing = |name: &str| match Field::of(name.as_bytes()) {
            Some(field) => request.parsed.raw(field).is_none(),
            None => request.parsed.find_unknown(name).is_none(),
        };
        let defaults = request.params.defaults.iter().filter(|(name, _)| missing(name));
        for (name, json) in defaults.chain(&request.params.overrides) {
            let field = Field::of(name.as_bytes());
            let refused = field.is_some_and(|field| request.params.adjustments.without.contains(field));
            if refused || fixed.contains(&name.as_str()) || !sent(field, name) {
                continue;
            }
            if json == "null" { self.remove(name.as_str()) } else { self.set(name.as_str(), json.as_bytes()) }
        }
    }

    /// Names the model of the attempt's target.
    pub fn set_model(&mut self) {
        self.set(Field::Model, quoted(self.request.model));
    }

    /// Gives a member a value (JSON), whether it was there or not.
    pub fn set(&mut self, name: impl Into<Name<'a>>, json: impl Into<Cow<'a, [u8]>>) {
        self.put(name.into(), Some(json.into()));
    }

    /// The value that a member has by now; `None` where it is absent or null.
    pub fn value(&self, name: impl Into<Name<'a>>) -> Option<&[u8]> {
        let name = name.into();
        match self.members.iter().find(|(known, _)| *known == name) {
            Some((_, value)) => value.as_deref(),
            None => self.request.parsed.raw_named(name.text()).map(str::as_bytes),
        }
    }

    /// Takes a member out, where it is there.
    pub fn remove(&mut self, name: impl Into<Name<'a>>) {
        self.put(name.into(), None);
    }

    /// Takes out the tools and every word about them.
    pub fn remove_tools(&mut self) {
        [Field::Tools, Field::ToolChoice, Field::ParallelToolCalls].into_iter().for_each(|field| self.remove(field));
    }

    /// Puts a message in front of all others.
    pub fn prepend_message(&mut self, json: Vec<u8>) {
        self.first_message = Some(json);
    }

    fn put(&mut self, name: Name<'a>, value: Option<Cow<'a, [u8]>>) {
        match self.members.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.members.push((name, value)),
        }
    }

    /// The bytes: the client's own where nothing changes.
    pub fn finish(self) -> Slices {
        let body = self.request.parsed.body();
        let envelope = self.request.parsed.envelope();
        let mut splice = Splice::new(body, envelope);
        for (name, value) in self.members {
            match (self.request.parsed.find(name.text()), value) {
                (Some(member), Some(value)) if member.value.of(body) != &*value => splice.replace(member, value),
                (Some(member), None) => splice.remove(member),
                (None, Some(value)) => splice.insert(name.text(), value),
                _ => {}
            }
        }
        if let (Some(message), Some(member)) = (self.first_message, self.request.parsed.member(Field::Messages)) {
            splice.insert_into_array_start(member, Cow::Owned(message));
        }
        splice.finish()
    }
}
