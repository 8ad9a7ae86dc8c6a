//! What `tidegate check` prints of the files in `tests/fixtures/check`, to the letter.

use super::*;
use std::path::Path;

/// 2026-12-01T00:00:00Z.
const NOW: i64 = 1_796_083_200;
const DAY: i64 = 86_400;

fn printed(text: &str, name: &str, now: i64) -> String {
    let problems = match parse_after(text, name, &env, (now, None)) {
        Ok(loaded) => [loaded.key_problems, loaded.warnings].concat(),
        Err(rejected) => rejected.problems,
    };
    // A new kind changes no file.
    let kinds: Vec<_> = crate::provider::catalogue::kinds().iter().map(|kind| kind.name.as_str()).collect();
    render::render(&problems, false).replace(&kinds.join(", "), "KINDS")
}

#[test]
fn every_file_is_answered_with_its_text() {
    let folder = Path::new("tests/fixtures/check");
    let mut differences = String::new();
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        files += 1;
        let text = std::fs::read_to_string(&path).unwrap();
        let now = if text.starts_with("# now: CERTIFICATE") { certificate_end() - 9 * DAY } else { NOW };
        let name = path.file_name().unwrap().to_str().unwrap();
        let printed = printed(&text, name, now);
        let wanted = path.with_extension("txt");
        if std::env::var_os("UPDATE_FIXTURES").is_some() {
            std::fs::write(&wanted, &printed).unwrap();
        }
        let wanted = std::fs::read_to_string(wanted).unwrap_or_default();
        if printed != wanted {
            differences += &format!("--- {name}: wanted\n{wanted}--- but printed\n{printed}");
        }
    }
    assert!(files >= 18 && differences.is_empty(), "{files} files\n{differences}");
}

fn certificate_end() -> i64 {
    let pem = std::fs::read("tests/fixtures/tls/certificate.pem").unwrap();
    crate::pem::Certificates::parse(&pem).unwrap().end().unwrap()
}

#[test]
fn an_expired_certificate_is_told_from_one_that_will() {
    let text = std::fs::read_to_string("tests/fixtures/check/04-expired-certificate.yaml").unwrap();
    assert!(printed(&text, "t", certificate_end()).contains("warning: the certificate expired on "));
    assert_eq!(printed(&text, "t", certificate_end() - 15 * DAY), "");
}

#[test]
fn the_shipped_configurations_have_no_warnings() {
    let env = |name: &str| name.ends_with("_KEY").then(|| "some-key".to_owned());
    for (name, text) in [("demo", include_str!("../../../conf/demo.yaml")), ("tidegate", include_str!("../../../conf/tidegate.yaml"))] {
        let loaded = parse_after(text, name, &env, (NOW, None)).unwrap_or_else(|problems| panic!("{problems:#?}"));
        assert_eq!(render::render(&loaded.warnings, false), "");
    }
}

#[test]
fn the_readmes_configurations_have_no_errors_and_no_warnings() {
    let env = |name: &str| name.ends_with("_KEY").then(|| "some-key".to_owned());
    let readme = include_str!("../../../README.md");
    let blocks = readme.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let whole: Vec<_> = blocks.filter(|text| text.contains("providers:") && text.contains("routes:")).collect();
    assert!(!whole.is_empty());
    for text in whole {
        let loaded = parse_after(text, "README.md", &env, (NOW, None)).unwrap_or_else(|problems| panic!("{problems:#?}"));
        assert_eq!(render::render(&loaded.warnings, false), "", "{text}");
    }
}
