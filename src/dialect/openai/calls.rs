//! Which tool call a fragment belongs to. OpenAI numbers them; other servers leave the number out, repeat it, or send
//! calls whole.

use super::decode::broken;
use crate::chat::event::{Event, Sink, Text, ToolForm};
use crate::dialect::Fault;
use crate::json::walk;
use smallvec::SmallVec;

/// Most tool calls of one choice.
pub const MAX_CALLS: usize = 1024;
/// Most bytes of arguments that are held until the call's name is known.
pub const MAX_EARLY_ARGUMENTS: usize = 64 << 10;

/// One call of a choice. Its place in the list is the number that events give it.
#[derive(Debug, Default)]
struct Call {
    /// The provider's number.
    index: Option<u64>,
    /// The provider's id, as it stands in JSON.
    id: String,
    /// Whether it has been told.
    started: bool,
    /// Arguments that came before the name, as they stand in JSON.
    early: String,
}

/// The calls of one choice.
#[derive(Debug, Default)]
pub struct Calls(Vec<Call>);

#[derive(Default)]
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
    /// Reads a `tool_calls` array. In a `whole` answer every element is a call of its own.
    ///
    /// # Errors
    /// [`Fault::Broken`] where it is not well formed or has too much in it.
    pub fn read(&mut self, choice: u32, json: &str, whole: bool, out: &mut dyn Sink) -> Result<(), Fault> {
        let mut elements = walk::inner_elements(json).map_err(broken)?;
        let mut named: SmallVec<[usize; 4]> = SmallVec::new();
        while let Some(element) = elements.next().map_err(broken)? {
            let fragment = Fragment::read(element)?;
            let mut number = if whole { self.push(&fragment) } else { self.find(&fragment) };
            // One array that names a call twice speaks of two calls, whatever their numbers say.
            if !fragment.name.is_empty() {
                if named.contains(&number) {
                    number = self.push(&fragment);
                }
                named.push(number);
            }
            if number >= MAX_CALLS {
                return Err(Fault::Broken("the answer has too many tool calls".into()));
            }
            if let Some(call) = self.0.get_mut(number) {
                call.take(choice, number as u32, &fragment, out)?;
            }
        }
        Ok(())
    }

    /// Tells the calls whose name never came.
    pub fn finish(&mut self, choice: u32, out: &mut dyn Sink) {
        for (number, call) in self.0.iter_mut().enumerate().filter(|(_, call)| !call.started) {
            call.start(choice, number as u32, &Fragment::default(), out);
        }
    }

    fn push(&mut self, fragment: &Fragment<'_>) -> usize {
        let index = fragment.index;
        if self.0.len() < MAX_CALLS {
            self.0.push(Call { index, id: fragment.id.to_owned(), ..Call::default() });
            return self.0.len() - 1;
        }
        MAX_CALLS
    }

    /// The number tells the call; without one the id does, and without both it is the last call. Two ids under one
    /// number are two calls.
    fn find(&mut self, fragment: &Fragment<'_>) -> usize {
        let other_id = |call: &Call| !fragment.id.is_empty() && !call.id.is_empty() && call.id != fragment.id;
        let found = match (fragment.index, fragment.id) {
            (Some(_), _) => {
                self.0.iter().rposition(|call| call.index == fragment.index).filter(|&at| !self.0.get(at).is_some_and(other_id))
            }
            (None, "") => self.0.len().checked_sub(1),
            (None, id) => self.0.iter().position(|call| call.id == id),
        };
        found.unwrap_or_else(|| self.push(fragment))
    }
}

impl Call {
    fn take(&mut self, choice: u32, number: u32, fragment: &Fragment<'_>, out: &mut dyn Sink) -> Result<(), Fault> {
        if self.id.is_empty() {
            fragment.id.clone_into(&mut self.id);
        }
        if !self.started && !fragment.name.is_empty() {
            self.start(choice, number, fragment, out);
        }
        if fragment.arguments.is_empty() {
            return Ok(());
        }
        let text = if fragment.object { Text::Plain(fragment.arguments) } else { Text::Raw(fragment.arguments) };
        if self.started {
            out.event(Event::ToolArguments { choice, call: number, fragment: text });
            return Ok(());
        }
        if self.early.len() + fragment.arguments.len() > MAX_EARLY_ARGUMENTS {
            return Err(Fault::Broken("a tool call has arguments and no name".into()));
        }
        match text {
            Text::Raw(raw) => self.early.push_str(raw),
            Text::Plain(plain) => {
                let mut escaped = Vec::with_capacity(plain.len());
                crate::json::write::escape(&mut escaped, plain);
                self.early.push_str(&String::from_utf8(escaped).unwrap_or_default());
            }
        }
        Ok(())
    }

    fn start(&mut self, choice: u32, number: u32, fragment: &Fragment<'_>, out: &mut dyn Sink) {
        self.started = true;
        let id = Some(Text::Raw(&self.id)).filter(|id| !id.is_empty());
        let form = match fragment.extra {
            _ if fragment.custom => ToolForm::Custom,
            Some(json) => ToolForm::FunctionWith(json),
            None => ToolForm::Function,
        };
        out.event(Event::ToolStart { choice, call: number, id, name: Text::Raw(fragment.name), form });
        let early = std::mem::take(&mut self.early);
        if !early.is_empty() {
            out.event(Event::ToolArguments { choice, call: number, fragment: Text::Raw(&early) });
        }
    }
}

impl<'a> Fragment<'a> {
    fn read(json: &'a str) -> Result<Self, Fault> {
        let mut fragment = Self::default();
        let mut members = walk::inner_members(json).map_err(broken)?;
        while let Some((key, value)) = members.next().map_err(broken)? {
            match key.raw() {
                "index" => fragment.index = walk::unsigned(value),
                "id" => fragment.id = text(value),
                "function" if value.starts_with('{') => fragment.function(value)?,
                "custom" if value.starts_with('{') => {
                    fragment.custom = true;
                    fragment.function(value)?;
                }
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
        let mut members = walk::inner_members(json).map_err(broken)?;
        while let Some((key, value)) = members.next().map_err(broken)? {
            match key.raw() {
                "name" => self.name = text(value),
                "arguments" if value.starts_with(['{', '[']) => (self.arguments, self.object) = (value, true),
                "arguments" | "input" => self.arguments = text(value),
                _ => {}
            }
        }
        Ok(())
    }
}

fn text(json: &str) -> &str {
    match walk::string(json) {
        Some(Text::Raw(raw) | Text::Plain(raw)) => raw,
        None => "",
    }
}
