//! What an answer holds beside texts and calls: images, speech, and where its words come from. OpenAI's chat has a form for
//! speech and for links ([`annotations`](https://platform.openai.com/docs/api-reference/chat/object)); images have the form
//! of OpenRouter and LiteLLM; sources without a link and the results of a search are members of the gateway's own,
//! `citations` and `search_results`. What has no form at all is a fault: an answer without it would not be whole.

use crate::json::text::Text;
use crate::json::write::Writer;
use crate::llm::event::{Event, Sink};
use crate::llm::failure::Fault;

/// Longest name of a block or a media type in a fault, in characters.
const MAX_NAME: usize = 64;

/// Writes an image by the pieces of its address.
pub(super) fn image(choice: u32, url: &[Text<'_>], out: &mut dyn Sink) {
    let mut w = Writer::with_capacity(128);
    w.array().object().key("type").string("image_url").key("image_url").object().key("url").texts(url);
    w.end_object().end_object().end_array();
    extra(choice, "images", w, out);
}

/// Writes an image of this media type, its bytes in base64.
pub(super) fn image_data(choice: u32, media_type: Text<'_>, data: Text<'_>, out: &mut dyn Sink) {
    image(choice, &[Text::Plain("data:"), media_type, Text::Plain(";base64,"), data], out);
}

/// Writes speech, its bytes in base64.
pub(super) fn audio(choice: u32, data: Text<'_>, out: &mut dyn Sink) {
    let mut w = Writer::with_capacity(128);
    w.object().key("id").string(&format!("audio_{choice}")).key("data").text(data);
    w.key("expires_at").integer(0).key("transcript").string("").end_object();
    extra(choice, "audio", w, out);
}

/// A block that a chat completion has no place for; `kind` says more of it, or is empty.
pub(super) fn unshown(block: &str, kind: &str) -> Fault {
    let short = |text: &str| text.chars().take(MAX_NAME).collect::<String>();
    let kind = if kind.is_empty() { String::new() } else { format!(" of type `{}`", short(kind)) };
    Fault::Broken(format!("the answer has a block `{}`{kind}, which a chat completion cannot hold", short(block)).into())
}

/// The sources of an answer.
pub(super) struct Sources {
    links: Writer,
    others: Writer,
    found: (bool, bool),
}

impl Sources {
    /// None so far.
    pub(super) fn new() -> Self {
        let (mut links, mut others) = (Writer::default(), Writer::default());
        links.array();
        others.array();
        Self { links, others, found: (false, false) }
    }

    /// A source with a link, for the words from `place.0` to `place.1`; both are 0 where the provider does not say.
    pub(super) fn link(&mut self, url: Text<'_>, title: Option<Text<'_>>, place: (u64, u64)) {
        self.found.0 = true;
        let w = &mut self.links;
        w.object().key("type").string("url_citation").key("url_citation").object();
        w.key("start_index").integer(place.0).key("end_index").integer(place.1);
        w.key("url").text(url).key("title").text(title.unwrap_or(Text::Raw(""))).end_object().end_object();
    }

    /// A source that may have a link, under one of two names; `json` is all that the provider says of it.
    pub(super) fn source(&mut self, url: Option<Text<'_>>, name: Option<Text<'_>>, title: Option<Text<'_>>, json: &str) {
        let is_link = |text: &Text<'_>| ["https://", "http://"].iter().any(|scheme| text.decode().starts_with(scheme));
        match url.filter(|url| !url.is_empty()).or(name.filter(is_link)) {
            Some(url) => self.link(url, title, (0, 0)),
            None => {
                self.found.1 = true;
                self.others.raw(json);
            }
        }
    }

    /// Writes them.
    pub(super) fn write(mut self, choice: u32, out: &mut dyn Sink) {
        self.links.end_array();
        self.others.end_array();
        if self.found.0 {
            extra(choice, "annotations", self.links, out);
        }
        if self.found.1 {
            extra(choice, "citations", self.others, out);
        }
    }
}

/// Writes what a search of the provider's own has found: the link and the title of each page.
pub(super) fn search_results<'a>(choice: u32, found: impl Iterator<Item = (Text<'a>, Option<Text<'a>>)>, out: &mut dyn Sink) {
    let mut w = Writer::default();
    let mut count = 0;
    w.array();
    for (url, title) in found {
        count += 1;
        w.object().key("url").text(url).key("title").text(title.unwrap_or(Text::Raw(""))).end_object();
    }
    w.end_array();
    if count > 0 {
        extra(choice, "search_results", w, out);
    }
}

fn extra(choice: u32, key: &str, w: Writer, out: &mut dyn Sink) {
    if let Ok(json) = String::from_utf8(w.finish()) {
        out.event(Event::Extra { choice, key, json: &json });
    }
}
