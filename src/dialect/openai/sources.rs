//! The sources of an answer, which Perplexity and some others write beside its choices, whole and again in every chunk.
//! <https://github.com/perplexityai/perplexity-py>, types/stream_chunk.py

use super::element::filled;
use crate::json::envelope::ScanError;
use crate::json::text::Text;
use crate::json::walk;
use crate::llm::event::{Citation, Event, Page, Sink};

/// The lists as they came last, raw JSON; `""` where there are none.
#[derive(Debug, Default)]
pub struct Sources {
    citations: String,
    results: String,
    questions: String,
}

impl Sources {
    /// Keeps a member of the answer, if it is one of the lists.
    pub fn keep(&mut self, name: &str, json: &str) {
        let list = match name {
            "citations" => &mut self.citations,
            "search_results" => &mut self.results,
            "related_questions" => &mut self.questions,
            _ => return,
        };
        if json.starts_with('[') && list != json {
            json.clone_into(list);
        }
    }

    /// Emits them, once, when all of the text has come: what is cited with the titles of the results, and the other results.
    ///
    /// # Errors
    /// Where they are not well formed.
    pub fn emit(&mut self, choice: u32, out: &mut dyn Sink) -> Result<(), ScanError> {
        let Self { citations, results, questions } = std::mem::take(self);
        let (cited, found) = (links(&citations)?, links(&results)?);
        let is_in = |list: &[Link<'_>], url: Text<'_>| list.iter().position(|link| link.0.spelled() == url.spelled());
        let title = |url| found.get(is_in(&found, url)?)?.1;
        let list: Vec<_> = cited
            .iter()
            .map(|(url, own)| Citation { url: Some(*url), title: own.or_else(|| title(*url)), span: (0, 0), json: "" })
            .collect();
        let others = found.iter().filter(|(url, _)| is_in(&cited, *url).is_none());
        let pages: Vec<_> = others.map(|(url, title)| Page { url: *url, title: *title }).collect();
        if !pages.is_empty() {
            out.event(Event::SearchResults { choice, pages: &pages });
        }
        if !list.is_empty() {
            out.event(Event::Citations { choice, list: &list });
        }
        if !matches!(&*questions, "" | "[]") {
            out.event(Event::Extra { choice, key: "related_questions", json: &questions, content: false });
        }
        Ok(())
    }
}

/// An address, and its title.
type Link<'a> = (Text<'a>, Option<Text<'a>>);

/// The links of a list of addresses, or of objects with one.
fn links(json: &str) -> Result<Vec<Link<'_>>, ScanError> {
    let mut links = Vec::new();
    if json.is_empty() {
        return Ok(links);
    }
    let mut elements = walk::inner_elements(json)?;
    while let Some(element) = elements.next()? {
        let member = |name| walk::member(element, name).map(|value| value.and_then(filled));
        if element.starts_with('{') {
            links.extend(member("url")?.map(|url| Ok::<_, ScanError>((url, member("title")?))).transpose()?);
        } else {
            links.extend(filled(element).map(|url| (url, None)));
        }
    }
    Ok(links)
}
