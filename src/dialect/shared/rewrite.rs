//! A decoder around a decoder, which changes the events on their way.

use crate::dialect::Decoder;
use crate::frame::Frame;
use crate::llm::event::{Block, Event, Sink};
use crate::llm::failure::Fault;
use http::HeaderMap;

/// Changes events. A choice's `Finish` is the last moment to emit what was held back of it.
pub trait Rewrite: Send + Sync {
    /// Takes one event and emits what becomes of it.
    fn rewrite(&mut self, event: Event<'_>, out: &mut dyn Sink);

    /// A decoder whose events this changes.
    fn around(self, decoder: Box<dyn Decoder>) -> Box<dyn Decoder>
    where
        Self: Sized + 'static,
    {
        Box::new(Rewritten { decoder, rewrite: self })
    }
}

/// Reads an answer with one decoder and passes its events through a [`Rewrite`].
struct Rewritten<R> {
    decoder: Box<dyn Decoder>,
    rewrite: R,
}

struct Through<'a, R> {
    rewrite: &'a mut R,
    out: &'a mut dyn Sink,
}

impl<R: Rewrite> Sink for Through<'_, R> {
    fn event(&mut self, event: Event<'_>) {
        // Text is put together anew, so that the ends of the provider's own blocks of it mean nothing.
        if !matches!(event, Event::BlockEnd { block: Block::Text, .. }) {
            self.rewrite.rewrite(event, self.out);
        }
    }
}

impl<R: Rewrite> Decoder for Rewritten<R> {
    fn headers(&mut self, headers: &HeaderMap) {
        self.decoder.headers(headers);
    }

    fn frame(&mut self, frame: Frame<'_>, out: &mut dyn Sink) -> Result<(), Fault> {
        self.decoder.frame(frame, &mut Through { rewrite: &mut self.rewrite, out })
    }

    fn whole(&mut self, body: &[u8], out: &mut dyn Sink) -> Result<(), Fault> {
        self.decoder.whole(body, &mut Through { rewrite: &mut self.rewrite, out })
    }

    fn end(&mut self, out: &mut dyn Sink) -> Result<(), Fault> {
        self.decoder.end(&mut Through { rewrite: &mut self.rewrite, out })
    }
}
