//! A conversation as one text, in the template that a Llama model was trained on.
//!
//! TGI's `generate` takes a text, not messages. The template is read from the names that the operator gives the target:
//! an endpoint or inference component whose name has `llama-2`, `llama2`, `mistral` or `mixtral` in it is asked in
//! Llama 2's template, every other in Llama 3's.

use crate::error::ApiError;
use crate::llm::request::{Content, Role, Turn};

/// Ends a turn of Llama 3.
pub(super) const LLAMA3_END: &str = "<|eot_id|>";

/// A model's template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Template {
    /// `<s>[INST] … [/INST] … </s>`
    Llama2,
    /// `<|start_header_id|>role<|end_header_id|> … <|eot_id|>`
    Llama3,
}

/// A conversation in the order that a template wants.
pub(super) struct Dialog {
    /// All instructions; empty where there are none.
    pub(super) system: String,
    /// Whether it is the user who speaks, and what is said; never two of one speaker in a row, and at least one.
    pub(super) turns: Vec<(bool, String)>,
}

impl Template {
    /// The template of a target by its names.
    pub(super) fn of(names: [&str; 2]) -> Self {
        let old = |name: &str| {
            let name = name.to_ascii_lowercase();
            ["llama-2", "llama2", "mistral", "mixtral"].iter().any(|word| name.contains(word))
        };
        if names.into_iter().any(old) { Self::Llama2 } else { Self::Llama3 }
    }

    /// The whole conversation up to where the model speaks.
    ///
    /// # Errors
    /// As [`Self::fold`].
    pub(super) fn render(self, list: &[Turn<'_, '_>]) -> Result<String, ApiError> {
        let dialog = self.fold(list)?;
        Ok(match self {
            Self::Llama2 => llama2(&dialog),
            Self::Llama3 => llama3(&dialog),
        })
    }

    /// The conversation as these models know it: instructions first, then speakers in turn. Who says nothing has no turn,
    /// and neighbours of one speaker are one turn.
    ///
    /// # Errors
    /// A 400 that names what a text cannot hold: tool calls and their results, images, files, audio.
    pub(super) fn fold(self, list: &[Turn<'_, '_>]) -> Result<Dialog, ApiError> {
        let mut instructions: Vec<String> = Vec::new();
        let mut turns: Vec<(bool, String)> = Vec::new();
        for turn in list {
            let text = self.text(turn)?;
            match (turn.role(), turns.last_mut()) {
                (Role::System, _) => instructions.push(text),
                _ if text.is_empty() => {}
                (role, Some((user, last))) if *user == (role == Role::User) => {
                    last.push('\n');
                    last.push_str(&text);
                }
                (role, _) => turns.push((role == Role::User, text)),
            }
        }
        instructions.retain(|text| !text.is_empty());
        if turns.is_empty() {
            if instructions.is_empty() {
                return Err(ApiError::field("messages", "`messages` must hold a message of the user that is not empty"));
            }
            // Instructions alone are answered, as in every dialect.
            turns.push((true, String::new()));
        } else if list.last().is_some_and(|turn| turn.role() == Role::System) && turns.last().is_some_and(|(user, _)| !user) {
            turns.push((true, String::new()));
        }
        Ok(Dialog { system: instructions.join("\n\n"), turns })
    }

    fn text(self, turn: &Turn<'_, '_>) -> Result<String, ApiError> {
        if turn.role() == Role::Tool || turn.calls().next().is_some() {
            return Err(turn.at().refused("this model takes no tools, and so no tool calls or results"));
        }
        for block in turn.blocks {
            let what = match block.content {
                Content::Image { .. } => "an image",
                Content::File { .. } => "a file",
                Content::Audio { .. } => "audio",
                Content::Text(_) | Content::Refusal(_) | Content::Reasoning(_) | Content::Call(_) | Content::Generated(_) => continue,
            };
            return Err(block.at.refused(&format!("this model takes text only, and this is {what}")));
        }
        let texts: Vec<String> = turn.texts()?.into_iter().map(|(text, _)| self.harmless(&text.decode())).collect();
        Ok(texts.join("\n"))
    }

    /// A text that cannot pretend to be another speaker: the server would read a marker in it as its own.
    fn harmless(self, text: &str) -> String {
        let markers: &[&str] = match self {
            Self::Llama2 => &["[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "<s>", "</s>"],
            Self::Llama3 => &["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", LLAMA3_END, "<|eom_id|>"],
        };
        markers.iter().fold(text.to_owned(), |text, marker| {
            if !text.contains(marker) {
                return text;
            }
            let (first, rest) = marker.split_at_checked(1).unwrap_or_default();
            text.replace(marker, &format!("{first} {rest}"))
        })
    }
}

fn llama2(Dialog { system, turns }: &Dialog) -> String {
    let mut out = String::new();
    let mut first = if system.is_empty() { String::new() } else { format!("<<SYS>>\n{system}\n<</SYS>>\n\n") };
    let mut asked = false;
    for (user, text) in turns {
        if !asked {
            // A conversation that the assistant opens has an empty question before it.
            let question = if *user { text.as_str() } else { "" };
            out.push_str(&format!("<s>[INST] {}{question} [/INST]", std::mem::take(&mut first)));
        }
        if !user {
            out.push_str(&format!(" {text} </s>"));
        }
        asked = *user;
    }
    out
}

fn llama3(Dialog { system, turns }: &Dialog) -> String {
    let mut out = "<|begin_of_text|>".to_owned();
    let mut turn = |role: &str, text: &str, end: &str| {
        out.push_str(&format!("<|start_header_id|>{role}<|end_header_id|>\n\n{text}{end}"));
    };
    if !system.is_empty() {
        turn("system", system, LLAMA3_END);
    }
    for (user, text) in turns {
        turn(if *user { "user" } else { "assistant" }, text, LLAMA3_END);
    }
    turn("assistant", "", "");
    out
}
