//! What an answer of Converse's holds beside texts and calls: images, and where its words come from.

use super::wire::{Citation, Image};
use crate::dialect::shown::{self, Sources};
use crate::json::text::Text;
use crate::llm::event::Sink;
use crate::llm::failure::{FailureClass, Fault, ProviderError};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;

/// Longest image of a stream, in bytes.
const MAX_IMAGE: usize = 16 << 20;

/// The image of a stream that is being read.
#[derive(Default)]
pub(super) struct OpenImage {
    format: Option<String>,
    bytes: Vec<u8>,
}

impl OpenImage {
    /// Takes its beginning, or a piece of it.
    ///
    /// # Errors
    /// The provider could not make it, or it is no image that can be told.
    pub(super) fn push(&mut self, image: &Image<'_>) -> Result<(), Fault> {
        failed(image)?;
        if let Some(format) = image.format {
            self.format = Some(format.decode().into_owned());
        }
        let Some(source) = &image.source else { return Ok(()) };
        let piece = source.bytes.and_then(|data| STANDARD.decode(data.decode().as_bytes()).ok());
        let piece = piece.ok_or_else(|| shown::unshown("image", ""))?;
        if self.bytes.len() + piece.len() > MAX_IMAGE {
            return Err(Fault::Broken("an image is too long".into()));
        }
        self.bytes.extend_from_slice(&piece);
        Ok(())
    }

    /// Writes it; it has ended.
    ///
    /// # Errors
    /// Nothing of it has come.
    pub(super) fn finish(self, out: &mut dyn Sink) -> Result<(), Fault> {
        let format = self.format.filter(|_| !self.bytes.is_empty()).ok_or_else(|| shown::unshown("image", ""))?;
        write(Text::Plain(&format), Text::Plain(&STANDARD.encode(&self.bytes)), out);
        Ok(())
    }
}

/// Writes an image of a whole answer.
///
/// # Errors
/// As [`OpenImage::push`].
pub(super) fn image(image: &Image<'_>, out: &mut dyn Sink) -> Result<(), Fault> {
    failed(image)?;
    let bytes = image.source.as_ref().and_then(|source| source.bytes);
    let (format, bytes) = image.format.zip(bytes).ok_or_else(|| shown::unshown("image", ""))?;
    write(format, bytes, out);
    Ok(())
}

fn write(format: Text<'_>, data: Text<'_>, out: &mut dyn Sink) {
    shown::image(0, &[Text::Plain("data:image/"), format, Text::Plain(";base64,"), data], out);
}

fn failed(image: &Image<'_>) -> Result<(), Fault> {
    let Some(error) = &image.error else { return Ok(()) };
    let message = error.message.map_or_else(|| "the model made no image".into(), Text::decode).into_owned();
    Err(Fault::Provider(ProviderError { class: FailureClass::Server, message, param: None, retry_after: None }))
}

/// Writes where words come from.
pub(super) fn citations(list: &[&RawValue], out: &mut dyn Sink) {
    let mut sources = Sources::new();
    for raw in list {
        match serde_json::from_str::<Citation<'_>>(raw.get()) {
            Ok(one) => sources.source(one.location.and_then(|place| place.web?.url), one.source, one.title, raw.get()),
            Err(_) => sources.source(None, None, None, raw.get()),
        }
    }
    sources.write(0, out);
}
