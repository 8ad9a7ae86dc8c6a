//! `encrypted_content` of reasoning: it carries the reasoning itself, so that it can be verified without a store.

use super::super::Service;
use crate::simulate::signature::sign;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// What every encrypted content of the simulator begins with; OpenAI's begin with `gAAAAA`.
const PREFIX: &str = "gAAAAAsim";
/// Length of a signature in base64.
const SIGNATURE: usize = 44;

/// The encrypted content of a reasoning text. Only the same service reads it.
pub(super) fn seal(service: Service, text: &str) -> String {
    format!("{PREFIX}{}{}", sign(&format!("{service:?}: {text}")), STANDARD.encode(text))
}

/// The reasoning text in an encrypted content; `None` if this service did not make it.
pub(super) fn open(service: Service, encrypted: &str) -> Option<String> {
    let (_, text) = encrypted.strip_prefix(PREFIX)?.split_at_checked(SIGNATURE)?;
    let text = String::from_utf8(STANDARD.decode(text).ok()?).ok()?;
    (seal(service, &text) == encrypted).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_service_that_made_it_reads_it() {
        let sealed = seal(Service::OpenAi, "A thought, zwölf");
        assert_eq!(open(Service::OpenAi, &sealed).as_deref(), Some("A thought, zwölf"));
        assert_eq!(open(Service::Xai, &sealed), None);
        for other in ["", PREFIX, "tg1.sealed", &sealed.replace("sim", "sin"), &sealed[..sealed.len() - 4], &format!("{sealed}QUJD")] {
            assert_eq!(open(Service::OpenAi, other), None, "{other}");
        }
    }
}
