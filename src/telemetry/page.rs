//! The page at `/`: one document with its style and script inside, which shows `/status`, `/status/history` and `/limits`. Its
//! policy allows the browser these two, requests to its own origin, and nothing else.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use std::sync::LazyLock;

/// The document with its policy.
pub struct Html {
    /// The document.
    pub body: Vec<u8>,
    /// `content-security-policy`.
    pub policy: String,
}

/// See the module.
pub static PAGE: LazyLock<Html> = LazyLock::new(|| {
    let (style, script) = (include_str!("page/page.css"), include_str!("page/page.js"));
    let body = include_str!("page/page.html").replace("/*style*/", style).replace("/*script*/", script).into_bytes();
    // `img-src` is for the icon, which is a data URI: without one browsers ask for /favicon.ico.
    let policy = format!(
        "default-src 'none'; script-src '{}'; style-src '{}'; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
        source(script),
        source(style)
    );
    Html { body, policy }
});

/// The source expression that allows exactly this text (CSP level 3, section 2.3.1).
fn source(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_allows_the_style_and_the_script_of_the_document() {
        let body = std::str::from_utf8(&PAGE.body).unwrap();
        for (element, directive) in [("style", "style-src"), ("script", "script-src")] {
            let (_, rest) = body.split_once(&format!("<{element}>")).unwrap();
            let (text, rest) = rest.split_once(&format!("</{element}>")).unwrap();
            assert!(PAGE.policy.contains(&format!("{directive} '{}'", source(text))), "{element}");
            assert!(text.len() > 1000 && !rest.contains(&format!("<{element}")));
        }
    }

    #[test]
    fn the_document_names_nothing_outside_and_has_no_handlers() {
        let body = std::str::from_utf8(&PAGE.body).unwrap().replace("http://www.w3.org/2000/svg", "");
        for sign in
            ["http:", "https:", "src=", "@import", " onclick", " onload", "innerHTML", "insertAdjacentHTML", "document.write", "eval("]
        {
            assert!(!body.contains(sign), "{sign}");
        }
    }
}
