//! The endpoints of OpenAI's API, and the rerank endpoint of Cohere and Jina, whose requests and answers pass as they are.
//!
//! Nothing of them is translated: a provider either has the endpoint or it does not. What the gateway has to know of each is
//! data, here.

use crate::yaml::section::words;

words! {
    /// An endpoint whose requests pass. Its word is its path with `_` for `/`.
    Endpoint {
        /// `POST /v1/completions`.
        Completions = "completions",
        /// `POST /v1/moderations`.
        Moderations = "moderations",
        /// `POST /v1/images/generations`.
        ImagesGenerations = "images_generations",
        /// `POST /v1/images/edits`.
        ImagesEdits = "images_edits",
        /// `POST /v1/images/variations`.
        ImagesVariations = "images_variations",
        /// `POST /v1/audio/speech`.
        AudioSpeech = "audio_speech",
        /// `POST /v1/audio/transcriptions`.
        AudioTranscriptions = "audio_transcriptions",
        /// `POST /v1/audio/translations`.
        AudioTranslations = "audio_translations",
        /// `POST /v1/rerank`.
        Rerank = "rerank",
    }
}

impl Endpoint {
    /// The endpoint at a path of the gateway.
    pub fn of(path: &str) -> Option<Self> {
        let below = path.strip_prefix("/v1")?;
        Self::ALL.iter().copied().find(|endpoint| endpoint.path() == below)
    }

    /// Its path below a base URL.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Completions => "/completions",
            Self::Moderations => "/moderations",
            Self::ImagesGenerations => "/images/generations",
            Self::ImagesEdits => "/images/edits",
            Self::ImagesVariations => "/images/variations",
            Self::AudioSpeech => "/audio/speech",
            Self::AudioTranscriptions => "/audio/transcriptions",
            Self::AudioTranslations => "/audio/translations",
            Self::Rerank => "/rerank",
        }
    }

    /// Whether requests may be forms (`multipart/form-data`), because they carry files. All may be JSON.
    pub const fn takes_forms(self) -> bool {
        matches!(self, Self::ImagesEdits | Self::ImagesVariations | Self::AudioTranscriptions | Self::AudioTranslations)
    }

    /// Whether answers are images, of which there are `n`.
    pub const fn makes_images(self) -> bool {
        matches!(self, Self::ImagesGenerations | Self::ImagesEdits | Self::ImagesVariations)
    }

    /// The members whose text a model reads, by which the tokens of a request are estimated. Moderations count none.
    pub const fn prompt(self) -> &'static [&'static str] {
        match self {
            Self::Completions | Self::ImagesGenerations | Self::ImagesEdits => &["prompt"],
            Self::AudioSpeech => &["input"],
            Self::Rerank => &["query", "documents"],
            Self::Moderations | Self::ImagesVariations | Self::AudioTranscriptions | Self::AudioTranslations => &[],
        }
    }

    /// Whether a stream that is asked for is what comes, so that its head can be written before anybody answers. OpenAI
    /// ignores `stream` of transcriptions with `whisper-1`.
    pub const fn always_streams(self) -> bool {
        !matches!(self, Self::AudioTranscriptions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_a_path() {
        for endpoint in Endpoint::ALL {
            assert_eq!(format!("/{}", endpoint.name().replace('_', "/")), endpoint.path());
            assert_eq!(Endpoint::of(&format!("/v1{}", endpoint.path())), Some(*endpoint));
        }
        assert_eq!((Endpoint::of("/completions"), Endpoint::of("/v1/images"), Endpoint::of("/v1/chat/completions")), (None, None, None));
    }
}
