//! The conversation as input items: messages, calls and their results, each where it stands.
//! <https://platform.openai.com/docs/api-reference/responses/create#responses_create-input>
//!
//! Instructions are messages too. Apart, as `instructions`, they would lose their place among the others, and OpenAI does not look
//! there for the word that `json_object` needs: "Response input messages must contain the word 'json' in some form".

use super::state;
use crate::dialect::openai::messages::{NAMES, fitted};
use crate::dialect::openai::quirks::Quirks;
use crate::dialect::shared::params::Settled;
use crate::error::ApiError;
use crate::json::text::Text;
use crate::json::walk;
use crate::json::write::Writer;
use crate::llm::media::Link;
use crate::llm::request::{Block, CacheMark, Content, Request, Role, ToolCall, Turn};

/// What a file without a name is called: OpenAI answers 400 to `file_data` without a `filename`.
const FILE_NAME: Text<'static> = Text::Plain("document.pdf");

/// Writes the items of a request, an array.
///
/// # Errors
/// A 400 that names a block which the API has no part for, or a speaker's name where the route refuses lost fields.
pub(super) fn write(w: &mut Writer, request: &Request<'_>, quirks: &Quirks, settled: &mut Settled) -> Result<(), ApiError> {
    let (mut items, turns) = (Items { w, quirks }, request.turns());
    items.w.array();
    // For chat templates that take one message of instructions.
    let system_first = request.adjustments.system_first;
    if system_first {
        let systems = turns.iter().filter(|turn| turn.role() == Role::System).map(Turn::texts).collect::<Result<Vec<_>, _>>()?;
        items.system(&systems.concat());
    }
    for turn in turns {
        if turn.name().is_some() {
            settled.drop(NAMES)?;
        }
        match turn.role() {
            Role::System if system_first => {}
            Role::System => items.system(&turn.texts()?),
            Role::User => items.user(&turn)?,
            Role::Assistant => items.assistant(&turn)?,
            Role::Tool => items.result(&turn)?,
        }
    }
    items.w.end_array();
    Ok(())
}

struct Items<'w, 'q> {
    w: &'w mut Writer,
    quirks: &'q Quirks,
}

impl Items<'_, '_> {
    fn system(&mut self, texts: &[(Text<'_>, Option<CacheMark>)]) {
        match texts {
            [] => {}
            [(text, _)] => {
                self.w.object().key("role").string("system").key("content").text(*text).end_object();
            }
            texts => {
                self.w.object().key("role").string("system").key("content").array();
                texts.iter().for_each(|(text, _)| input_text(*text, self.w));
                self.w.end_array().end_object();
            }
        }
    }

    /// A turn that says nothing is answered all the same, as in chat completions.
    fn user(&mut self, turn: &Turn<'_, '_>) -> Result<(), ApiError> {
        self.w.object().key("role").string("user").key("content");
        self.content(turn, Text::Plain(""))?;
        self.w.end_object();
        Ok(())
    }

    /// The result of a call, which may hold images and files.
    fn result(&mut self, turn: &Turn<'_, '_>) -> Result<(), ApiError> {
        self.w
            .object()
            .key("type")
            .string("function_call_output")
            .key("call_id")
            .string(&fitted(turn.answers(), self.quirks))
            .key("output");
        self.content(turn, turn.error_prefix())?;
        self.w.end_object();
        Ok(())
    }

    /// A text, or an array of parts.
    fn content(&mut self, turn: &Turn<'_, '_>, prefix: Text<'_>) -> Result<(), ApiError> {
        let says = |block: &&Block<'_>| match block.content {
            Content::Text(text) | Content::Refusal(text) => !text.is_empty(),
            Content::Reasoning(_) | Content::Call(_) | Content::Generated(_) => false,
            Content::Image { .. } | Content::File { .. } | Content::Audio { .. } => true,
        };
        let blocks: Vec<&Block<'_>> = turn.blocks.iter().filter(says).collect();
        match blocks.as_slice() {
            [] => {
                self.w.text(prefix);
            }
            [Block { content: Content::Text(text) | Content::Refusal(text), .. }] => {
                self.w.texts(&[prefix, *text]);
            }
            blocks => {
                self.w.array();
                if !prefix.is_empty() {
                    input_text(prefix, self.w);
                }
                blocks.iter().try_for_each(|block| self.part(block))?;
                self.w.end_array();
            }
        }
        Ok(())
    }

    fn part(&mut self, block: &Block<'_>) -> Result<(), ApiError> {
        match block.content {
            Content::Text(text) | Content::Refusal(text) => input_text(text, self.w),
            Content::Image { source, detail } => {
                source.write_url(self.w.object().key("type").string("input_image").key("image_url"));
                self.w.key("detail").text(detail.unwrap_or(Text::Plain("auto"))).end_object();
            }
            Content::File { source, name, id } => {
                self.w.object().key("type").string("input_file");
                match source.map(|source| (source, source.link())) {
                    Some((source, Link::Web(_))) => source.write_url(self.w.key("file_url")),
                    Some((source, _)) => {
                        self.w.key("filename").text(name.unwrap_or(FILE_NAME));
                        source.write_url(self.w.key("file_data"));
                    }
                    None => {}
                }
                self.w.optional_text("file_id", id).end_object();
            }
            Content::Audio { .. } => return Err(block.at.refused("the Responses API, by which this model is asked, takes no audio")),
            Content::Reasoning(_) | Content::Call(_) | Content::Generated(_) => {}
        }
        Ok(())
    }

    /// Texts and calls in their order. The reasoning that led to a call stands before it and the texts that came with it; reasoning
    /// without its state cannot be given back.
    fn assistant(&mut self, turn: &Turn<'_, '_>) -> Result<(), ApiError> {
        turn.texts()?;
        let mut said: Vec<Text<'_>> = Vec::new();
        for block in turn.blocks {
            match &block.content {
                Content::Text(text) | Content::Refusal(text) if !text.is_empty() => said.push(*text),
                Content::Call(call) => {
                    if let Some(items) = call.id.state.as_deref().and_then(state::items) {
                        self.returned(&items, &mut said)?;
                    }
                    self.messages(&mut said, None);
                    self.call(call);
                }
                _ => {}
            }
        }
        self.messages(&mut said, None);
        Ok(())
    }

    /// The items of a state, with the texts in the place of their message.
    fn returned(&mut self, items: &str, said: &mut Vec<Text<'_>>) -> Result<(), ApiError> {
        let mut elements = walk::elements(items)?;
        while let Some(item) = elements.next()? {
            match walk::member(item, "type")? {
                Some("\"message\"") => self.messages(said, walk::member(item, "phase")?),
                _ => _ = self.w.raw(item),
            }
        }
        Ok(())
    }

    /// The assistant's texts, each a message of this phase, raw JSON.
    fn messages(&mut self, said: &mut Vec<Text<'_>>, phase: Option<&str>) {
        for text in said.drain(..) {
            self.w.object().key("role").string("assistant").key("content").text(text).optional_raw("phase", phase).end_object();
        }
    }

    /// A call by its `call_id`; an id of its item would be looked for in OpenAI's store.
    fn call(&mut self, call: &ToolCall<'_>) {
        self.w.object().key("type").string("function_call").key("call_id").string(&fitted(&call.id.id, self.quirks));
        self.w.key("name").text(call.name).key("arguments");
        call.write_arguments(self.w);
        self.w.end_object();
    }
}

fn input_text(text: Text<'_>, w: &mut Writer) {
    w.object().key("type").string("input_text").key("text").text(text).end_object();
}
