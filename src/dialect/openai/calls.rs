//! Which tool call a fragment belongs to. OpenAI numbers them; other servers leave the number out, repeat it, or send
//! calls whole.

use crate::json::depth::Depth;
use crate::json::text::Text;
use crate::json::walk;
use crate::llm::event::{Event, Sink, ToolForm};
use crate::llm::failure::Fault;
use smallvec::SmallVec;

/// One call of a choice. Its place in the list is the number that events give it.
#[derive(Debug, Default)]
struct Call {
    /// The provider's number.
    index: Option<u64>,
    /// The provider's id, as it stands in JSON.
    id: String,
    /// Its name, as it stands in JSON; until it is started, more of it may come.
    name: String,
    /// See [`Fragment::custom`] and [`Fragment::extra`].
    custom: bool,
    extra: Option<Box<str>>,
    /// Whether its beginning has been emitted.
    started: bool,
    /// Arguments that came before the name, as they stand in JSON.
    early: String,
    /// How far the arguments are.
    progress: Depth,
    /// The arguments so far.
    received: Received,
    /// Whether each fragment repeats the arguments so far.
    cumulative: bool,
    /// Whether the arguments are an empty object, which some servers send before the arguments themselves.
    empty: bool,
}

/// Length and hash of a call's arguments, to recognise them where a server repeats them: a few bytes however long they are.
/// Costs a multiplication for every byte of the arguments, and for every byte compared, which are those of fragments that begin an
/// object and are no shorter than all before them.
#[derive(Debug)]
struct Received {
    length: usize,
    /// FNV-1a. A server that finds collisions breaks its own answers.
    hash: u64,
    is_object: bool,
}

impl Default for Received {
    fn default() -> Self {
        Self { length: 0, hash: 0xcbf2_9ce4_8422_2325, is_object: false }
    }
}

impl Received {
    fn hash(hash: u64, text: &str) -> u64 {
        text.bytes().fold(hash, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
    }

    fn add(&mut self, text: &str) {
        self.is_object |= self.length == 0 && text.starts_with('{');
        self.length += text.len();
        self.hash = Self::hash(self.hash, text);
    }

    /// What follows the arguments so far in a text that begins with them.
    fn rest<'a>(&self, text: &'a str) -> Option<&'a str> {
        let (same, rest) = text.split_at_checked(self.length).filter(|_| self.is_object && text.starts_with('{'))?;
        (Self::hash(Self::default().hash, same) == self.hash).then_some(rest)
    }

    fn is(&self, text: &str) -> bool {
        self.rest(text).is_some_and(str::is_empty)
    }
}

/// The calls of one choice.
///
/// A named fragment begins a call, or repeats the name of the one that it continues; a fragment without a name never
/// begins one. So the rules for a named fragment are:
///
/// ```text
/// another index, another id, or a second name in one array        -> a new call
/// the same call, its arguments not one complete JSON value        -> the name is repeated
/// the same call, complete, its own id, and its own arguments      -> the call is repeated
/// the same call, complete, and the fragment has other arguments   -> a new call: some servers number all of them 0
/// the same call, complete, and the fragment has no arguments yet  -> held until arguments follow: the last fragment of
///                                                                    a call may repeat its name with nothing
/// ```
///
/// A call starts with its first arguments, another call or the end, because its name may come in fragments. Its arguments are the
/// fragments one after another, but a fragment that begins with all before it repeats them, as some servers do in every fragment and
/// others in the last one. (A fragment of an object that nests itself under its first key can look like that too: `{"a":` and
/// `{"a":1}}`. No server is known to cut there.)
#[derive(Debug, Default)]
pub struct Calls {
    list: Vec<Call>,
    /// The call of the last fragment.
    last: usize,
    /// A named fragment that begins a call if arguments follow it: the call that it seems to repeat, and its name.
    held: Option<(usize, Box<str>)>,
}

#[derive(Clone, Copy, Default)]
struct Fragment<'a> {
    index: Option<u64>,
    id: &'a str,
    name: &'a str,
    /// Whether it is of a custom tool, whose arguments are an input of any text.
    custom: bool,
    /// Raw JSON that the provider wants back with the call.
    extra: Option<&'a str>,
    /// Raw JSON: the inside of a string, or a value where `object` is set.
    arguments: &'a str,
    object: bool,
}

impl Calls {
    /// Reads `tool_calls`: an array, or one element of it, as TGI streams. In a `whole` answer every element is a call of
    /// its own.
    ///
    /// # Errors
    /// [`Fault::Broken`] where it is not well formed or has too much in it.
    pub fn read(&mut self, choice: u32, json: &str, whole: bool, out: &mut dyn Sink) -> Result<(), Fault> {
        if json.starts_with('{') {
            return self.fragment(choice, json, whole, &mut SmallVec::new(), out);
        }
        let mut elements = walk::inner_elements(json)?;
        let mut named: SmallVec<[usize; 4]> = SmallVec::new();
        while let Some(element) = elements.next()? {
            self.fragment(choice, element, whole, &mut named, out)?;
        }
        Ok(())
    }

    fn fragment(
        &mut self,
        choice: u32,
        json: &str,
        whole: bool,
        named: &mut SmallVec<[usize; 4]>,
        out: &mut dyn Sink,
    ) -> Result<(), Fault> {
        let mut fragment = Fragment::read(json)?;
        if fragment.id.is_empty() && fragment.name.is_empty() && fragment.arguments.is_empty() {
            return Ok(()); // a number alone, or nothing
        }
        let held = self.held.take();
        let mut number = if whole { self.push(&fragment) } else { self.find(&fragment) };
        if fragment.name.is_empty() {
            if let Some((seems, name)) = &held
                && *seems == number
                && !fragment.arguments.is_empty()
            {
                fragment.name = name;
                number = self.push(&fragment);
            }
        } else if named.contains(&number) {
            number = self.push(&fragment); // one array that names a call twice has two calls, whatever their numbers are
        } else if let Some(call) = self.list.get(number).filter(|call| call.progress.is_whole()) {
            let is_same = !fragment.id.is_empty() && call.id == fragment.id && call.name == fragment.name;
            if is_same && call.received.is(fragment.arguments) {
                return Ok(());
            }
            let repeats = (fragment.arguments.trim().is_empty() && call.name == fragment.name) || (is_same && call.empty);
            if repeats && (call.id != fragment.id || fragment.id.is_empty()) {
                self.held = Some((number, fragment.name.into()));
                return Ok(());
            }
            if !repeats {
                number = self.push(&fragment);
            }
        }
        if !fragment.name.is_empty() {
            named.push(number);
        }
        if number >= MAX_CALLS {
            return Err(Fault::Broken("the answer has too many tool calls".into()));
        }
        let last = std::mem::replace(&mut self.last, number);
        if last != number
            && let Some(call) = self.list.get_mut(last)
        {
            call.end(choice, last as u32, out);
        }
        self.list.get_mut(number).map_or(Ok(()), |call| call.take(choice, number as u32, &fragment, out))
    }

    /// Whether the last call has a name and has not been started.
    pub fn is_waiting(&self) -> bool {
        self.list.get(self.last).is_some_and(|call| !call.started && !call.name.is_empty())
    }

    /// Starts the last call, which other content follows.
    pub fn start(&mut self, choice: u32, out: &mut dyn Sink) {
        if let Some(call) = self.list.get_mut(self.last) {
            call.start(choice, self.last as u32, out);
        }
    }

    /// Ends the last call.
    ///
    /// # Errors
    /// [`Fault::Broken`] where the name of a call never came.
    pub fn finish(&mut self, choice: u32, out: &mut dyn Sink) -> Result<(), Fault> {
        if let Some(call) = self.list.get_mut(self.last) {
            call.end(choice, self.last as u32, out);
        }
        if self.list.iter().any(|call| !call.started) {
            return Err(Fault::Broken("a tool call of the answer has no name".into()));
        }
        Ok(())
    }

    fn push(&mut self, fragment: &Fragment<'_>) -> usize {
        let index = fragment.index;
        if self.list.len() < MAX_CALLS {
            self.list.push(Call { index, id: fragment.id.to_owned(), ..Call::default() });
            return self.list.len() - 1;
        }
        MAX_CALLS
    }

    /// The call of a fragment: by its number, else by its id, else the last one. Two ids under one number are two calls
    /// where the second has a name or the first is complete; some servers make a new id for every fragment.
    fn find(&mut self, fragment: &Fragment<'_>) -> usize {
        let named = !fragment.name.is_empty();
        let last = self.list.len().checked_sub(1);
        let same_id = || self.list.iter().position(|call| !fragment.id.is_empty() && call.id == fragment.id);
        let found = match fragment.index {
            Some(_) => {
                let other_id = |call: &Call| {
                    let begins = named || (call.progress.is_whole() && !fragment.arguments.is_empty());
                    begins && !fragment.id.is_empty() && !call.id.is_empty() && call.id != fragment.id
                };
                let numbered = self.list.iter().rposition(|call| call.index == fragment.index);
                let numbered = numbered.filter(|&at| !self.list.get(at).is_some_and(other_id));
                // Without a name it may still continue the call that is open: some servers count fragments, not calls.
                let open = || {
                    last.filter(|&at| {
                        !named && self.list.get(at).is_some_and(|call| (call.started || !call.name.is_empty()) && !call.progress.is_whole())
                    })
                };
                numbered.or_else(|| if named { None } else { same_id() }).or_else(open)
            }
            None if fragment.id.is_empty() => last,
            None => same_id().or(if named { None } else { last }),
        };
        found.unwrap_or_else(|| self.push(fragment))
    }
}

impl Call {
    fn take(&mut self, choice: u32, number: u32, fragment: &Fragment<'_>, out: &mut dyn Sink) -> Result<(), Fault> {
        if self.id.is_empty() {
            fragment.id.clone_into(&mut self.id);
        }
        if !self.started {
            self.named(fragment)?;
        }
        let arguments = self.fresh(fragment);
        if arguments.is_empty() {
            return Ok(());
        }
        self.received.add(arguments);
        let text = if fragment.object { Text::Plain(arguments) } else { Text::Raw(arguments) };
        self.progress.read(text);
        self.start(choice, number, out);
        if self.started {
            out.event(Event::ToolArguments { choice, call: number, fragment: text });
            return Ok(());
        }
        if self.early.len() + arguments.len() > MAX_EARLY {
            return Err(Fault::Broken("a tool call has arguments and no name".into()));
        }
        self.early.push_str(&text.escaped());
        Ok(())
    }

    /// Takes the name of a fragment: the next part of it, the whole of it, or what was there already.
    fn named(&mut self, fragment: &Fragment<'_>) -> Result<(), Fault> {
        self.custom |= fragment.custom;
        if let Some(extra) = fragment.extra {
            self.extra = Some(extra.into());
        }
        if fragment.name.starts_with(&*self.name) {
            fragment.name.clone_into(&mut self.name);
        } else {
            self.name.push_str(fragment.name);
        }
        if self.name.len() > MAX_EARLY {
            return Err(Fault::Broken("the name of a tool call is too long".into()));
        }
        Ok(())
    }

    /// The arguments of a fragment without what came before.
    fn fresh<'a>(&mut self, fragment: &Fragment<'a>) -> &'a str {
        let arguments = fragment.arguments;
        if arguments.is_empty() || self.custom {
            return arguments; // a custom tool's input is no object
        }
        if self.received.length == 0 {
            let inside = arguments.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
            self.empty = fragment.object && inside.is_some_and(|inside| inside.trim().is_empty());
            self.progress = Depth::default();
            if self.empty {
                self.progress.read(Text::Plain(arguments));
            }
            return if self.empty { "" } else { arguments };
        }
        match self.received.rest(arguments) {
            Some("") if !self.cumulative && !self.progress.is_whole() => arguments,
            Some(rest) => {
                self.cumulative |= !rest.is_empty();
                rest
            }
            None => arguments,
        }
    }

    /// Emits what is known of the call where nothing more of it comes.
    fn end(&mut self, choice: u32, number: u32, out: &mut dyn Sink) {
        self.start(choice, number, out);
        if self.started && std::mem::take(&mut self.empty) {
            self.received.add(EMPTY);
            out.event(Event::ToolArguments { choice, call: number, fragment: Text::Plain(EMPTY) });
        }
    }

    /// Starts it, if it has a name and has not been started.
    fn start(&mut self, choice: u32, number: u32, out: &mut dyn Sink) {
        if self.started || self.name.is_empty() {
            return;
        }
        self.started = true;
        let id = Some(Text::Raw(&self.id)).filter(|id| !id.is_empty());
        let form = match &self.extra {
            _ if self.custom => ToolForm::Custom,
            Some(json) => ToolForm::FunctionWith(json),
            None => ToolForm::Function,
        };
        out.event(Event::ToolStart { choice, call: number, id, name: Text::Raw(&self.name), form, state: None });
        let early = std::mem::take(&mut self.early);
        if !early.is_empty() {
            out.event(Event::ToolArguments { choice, call: number, fragment: Text::Raw(&early) });
        }
    }
}

impl<'a> Fragment<'a> {
    fn read(json: &'a str) -> Result<Self, Fault> {
        let mut fragment = Self::default();
        if !json.starts_with('{') {
            return Err(odd("tool_calls"));
        }
        let mut members = walk::inner_members(json)?;
        while let Some((key, value)) = members.next()? {
            match key.raw() {
                // Some servers write the number as a text, or as a number with a fraction.
                "index" if value != "null" => {
                    let digits = value.trim_matches('"');
                    fragment.index = Some(walk::unsigned(digits.strip_suffix(".0").unwrap_or(digits)).ok_or_else(|| odd("index"))?);
                }
                "id" => fragment.id = if value.starts_with(|c: char| c.is_ascii_digit()) { value } else { text(value, "id")? },
                "function" if value.starts_with('{') => fragment.function(value)?,
                "custom" if value.starts_with('{') => {
                    fragment.custom = true;
                    fragment.function(value)?;
                }
                "function" | "custom" if value != "null" => return Err(odd("function")),
                "extra_content" if value.starts_with('{') => fragment.extra = Some(value),
                _ => {}
            }
        }
        if fragment.id == "null" {
            fragment.id = ""; // Mistral writes it for the fragments after the first
        }
        Ok(fragment)
    }

    fn function(&mut self, json: &'a str) -> Result<(), Fault> {
        let mut members = walk::inner_members(json)?;
        while let Some((key, value)) = members.next()? {
            match key.raw() {
                "name" => self.name = text(value, "name")?,
                "arguments" if value.starts_with(['{', '[']) => (self.arguments, self.object) = (value, true),
                "arguments" | "input" => self.arguments = text(value, "arguments")?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// The inside of a string; `""` for null.
fn text<'a>(json: &'a str, member: &'static str) -> Result<&'a str, Fault> {
    match walk::string(json) {
        Some(Text::Raw(raw) | Text::Plain(raw)) => Ok(raw),
        None if json == "null" => Ok(""),
        None => Err(odd(member)),
    }
}

/// The fault of a known member whose type gives it no meaning. Skipping it would lose a part of the answer.
pub(super) fn odd(member: &'static str) -> Fault {
    Fault::Broken(format!("`{member}` of the answer has an unexpected type").into())
}

/// Most tool calls of one choice.
const MAX_CALLS: usize = 1024;
/// Most bytes of a call's name, and of arguments that are held until it is known.
const MAX_EARLY: usize = 64 << 10;
/// The arguments of a call without any, as an object.
const EMPTY: &str = "{}";
