//! The invariants of the design that a reader could check by looking: this test looks.
//!
//! - Only `edge/` names pingora.
//! - What is pure has no async, no runtime, no clock and no randomness of its own.
//! - Outside tests the lints against panics are on; others are only silenced with a reason.
//! - A `Secret` cannot be shown, and its text is taken out in a few places only.
//! - Imports between folders point one way.
//! - Every file says why it exists and is short enough to read.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A file is to be split from here on.
const MAX_LINES: usize = 600;
/// Where nothing waits, knows the time or throws dice.
const PURE: [&str; 10] = ["json/", "frame/", "llm/", "front/", "dialect/", "route/", "relay/", "lifecycle/", "limit/gcra.rs", "error.rs"];
/// Signs of doing so. (clippy.toml bans what `system` wraps, and what blocks.)
const IMPURE: [&str; 6] = ["async fn", "async move", "async {", ".await", "tokio", "crate::system"];
/// Where a secret's text may be taken out: where requests are signed, and where the configuration makes headers of it.
const EXPOSE: [&str; 5] = ["secret.rs", "config/build/", "sign/", "sign.rs", "limit/redis/client.rs"];
/// Where lines may be written to the terminal.
const PRINT: [&str; 1] = ["terminal.rs"];

/// The folders and files at the top of `src`, the lowest first. One may import its own layer and those below; within a layer
/// there are no circles.
const LAYERS: [&[&str]; 9] = [
    &["closed_set", "files", "hex", "id", "near", "pem", "percent", "secret", "system", "terminal", "units", "json", "redact"],
    &["error", "egress", "yaml"],
    &["llm"],
    &["frame", "front", "sign", "account"],
    &["dialect", "limit"],
    &["provider", "auth", "relay"],
    &["route", "operation"],
    &["telemetry", "lifecycle", "explain", "config", "simulate"],
    &["edge", "reference", "report", "demo", "commands", "cli"],
];

/// A source file: all of it, and what of it is no test and no comment.
struct File {
    text: String,
    code: String,
}

/// Every file under `src`, by its path there.
fn sources() -> BTreeMap<String, File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = BTreeMap::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(&root).unwrap().display().to_string();
                found.insert(name, std::fs::read_to_string(path).unwrap());
            }
        }
    }
    let tests: Vec<String> = found.iter().flat_map(|(name, text)| test_files(name, text)).collect();
    let is_test = |name: &str| tests.iter().any(|t| name == format!("{t}.rs") || name.starts_with(&format!("{t}/")));
    assert!(found.len() > 100 && tests.len() > 5, "the source is not where it was");
    found
        .into_iter()
        .map(|(name, text)| (name.clone(), File { code: if is_test(&name) { String::new() } else { code(&text) }, text }))
        .collect()
}

/// The line after `#[cfg(test)]` and further attributes, and a `#[path]` among them.
fn test_modules(text: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    text.match_indices("#[cfg(test)]").filter_map(|(at, _)| {
        let mut path = None;
        for line in text[at..].lines() {
            if let Some(rest) = line.trim().strip_prefix("#[path = \"") {
                path = rest.split('"').next();
            }
            if !line.trim().starts_with("#[") {
                return Some((line.trim(), path));
            }
        }
        None
    })
}

/// Paths, without their ending, of the files that are test modules of this one.
fn test_files(name: &str, text: &str) -> Vec<String> {
    let own = name.trim_end_matches(".rs");
    let folder = Path::new(name).parent().unwrap().display().to_string();
    // A file's modules are in the folder of its own name, those of `mod.rs` beside it; a `#[path]` always counts from beside it.
    let children = if own.ends_with("mod") || own == "lib" { folder.clone() } else { own.to_owned() };
    let join = |folder: &str, file: &str| if folder.is_empty() { file.to_owned() } else { format!("{folder}/{file}") };
    let module = |line: &str| line.split_once("mod ")?.1.strip_suffix(';').map(str::to_owned);
    let files = test_modules(text).filter_map(|(line, path)| match path {
        Some(path) => module(line).map(|_| join(&folder, path.trim_end_matches(".rs"))),
        None => module(line).map(|m| join(&children, &m)),
    });
    files.collect()
}

/// What is left without test modules, which end their files, and without comments.
fn code(text: &str) -> String {
    let inline = test_modules(text).find(|(line, _)| line.contains("mod ") && line.ends_with('{'));
    let text = match inline.and_then(|(line, _)| text.rfind(&format!("\n{line}\n"))) {
        Some(end) => {
            let (code, tests) = text.split_at(end);
            assert!(tests.trim_end().ends_with("\n}"), "code after a test module: {}", &tests[..80.min(tests.len())]);
            assert_eq!(tests.matches("\n}\n").count(), 1, "a test module does not end its file");
            code.rfind("#[cfg(test)]").map_or(code, |at| &code[..at])
        }
        None => text,
    };
    let comment = |line: &str| line.find("// ").or_else(|| line.find("///")).or_else(|| line.find("//!")).unwrap_or(line.len());
    let mut gated = false; // between `#[cfg(test)]` and the item that it is about
    let mut lines = Vec::new();
    for line in text.lines() {
        gated |= line.trim() == "#[cfg(test)]";
        lines.push(if gated { "" } else { &line[..comment(line)] });
        gated &= line.trim().starts_with("#[");
    }
    lines.join("\n")
}

fn is_in(name: &str, places: &[&str]) -> bool {
    places.iter().any(|place| if place.ends_with('/') { name.starts_with(place) } else { name == *place })
}

/// `file:line: what` for each place in the code where one of the signs is.
fn places<'a>(files: impl Iterator<Item = (&'a String, &'a File)>, signs: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (name, file) in files {
        for (number, line) in file.code.lines().enumerate() {
            if signs.iter().any(|sign| line.contains(sign)) {
                found.push(format!("src/{name}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    found
}

#[track_caller]
fn none(found: &[String], rule: &str) {
    assert!(found.is_empty(), "{rule}:\n{}", found.join("\n"));
}

#[test]
fn only_the_edge_names_pingora() {
    let files = sources();
    none(&places(files.iter().filter(|(name, _)| !is_in(name, &["edge/"])), &["pingora"]), "pingora belongs into src/edge");
    assert!(!places(files.iter().filter(|(name, _)| is_in(name, &["edge/"])), &["pingora"]).is_empty());
}

/// The part of `src` that a path or a file's name begins with.
fn part(name: &str) -> &str {
    name.split(['/', ':', '.']).next().unwrap()
}

/// The first segments of all `crate::…` paths of a file, those in braces too.
fn imports(code: &str) -> BTreeSet<&str> {
    let word = |text: &'_ str| text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        assert!(!rest.starts_with('{'), "write one `use` for each part of the crate");
        found.insert(&rest[..word(rest)]);
    }
    found
}

#[test]
fn imports_between_folders_point_one_way() {
    let files = sources();
    let layer = |part: &str| LAYERS.iter().position(|parts| parts.contains(&part));
    let mut edges: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut upwards = Vec::new();
    for (name, file) in files.iter().filter(|(name, _)| !matches!(name.as_str(), "lib.rs" | "main.rs")) {
        let own = part(name);
        let from = layer(own).unwrap_or_else(|| panic!("give src/{own} a place in LAYERS"));
        for to in imports(&file.code).into_iter().filter(|to| *to != own) {
            // What is at the top of the crate and no part of it is a macro of another part.
            let Some(level) = layer(to) else { continue };
            edges.entry(own).or_default().insert(to);
            if level > from {
                upwards.push(format!("src/{name} imports {to}, which is above it"));
            }
        }
    }
    none(&upwards, "a type lives with the lowest part that needs it");
    // Parts from which nothing leads back are taken away; what is left are circles.
    while let Some(free) = edges.iter().find(|(_, to)| !to.iter().any(|to| edges.contains_key(to))).map(|(from, _)| *from) {
        edges.remove(free);
    }
    let circles: Vec<_> = edges.iter().map(|(from, to)| format!("{from} imports {to:?}")).collect();
    none(&circles, "parts of one layer import each other in a circle");
}

#[test]
fn what_is_pure_does_not_wait_know_the_time_or_throw_dice() {
    let files = sources();
    none(&places(files.iter().filter(|(name, _)| is_in(name, &PURE)), &IMPURE), "these parts only turn bytes into bytes");
}

#[test]
fn the_lints_against_panics_are_on() {
    let read = |name: &str| std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap();
    let lints = read("Cargo.toml") + &read("src/lib.rs");
    let wanted =
        ["unsafe_code = \"forbid\"", "missing_docs", "unwrap_used", "expect_used", "\npanic =", "indexing_slicing", "string_slice"];
    for lint in [&wanted[..], &["todo", "unimplemented", "unreachable", "disallowed_methods", "disallowed_types"]].concat() {
        assert!(lints.contains(lint), "{lint} is not on");
    }
    let files = sources();
    let silenced =
        ["clippy::unwrap_used", "clippy::expect_used", "clippy::panic", "clippy::todo", "clippy::unimplemented", "clippy::unreachable"];
    none(&places(files.iter().filter(|(name, _)| *name != "lib.rs"), &silenced), "return an error instead");
}

#[test]
fn an_error_has_a_status_of_its_type() {
    use tidegate::error::ErrorKind;
    let mut known = 0;
    for (name, file) in &sources() {
        let calls = file.code.split("ApiError::new(").skip(1).chain(file.code.split("Self::new(").skip(1));
        for call in calls {
            let Some((status, rest)) = call.trim_start().split_once(',') else { continue };
            let (Ok(status), Some((_, kind))) = (status.parse::<u16>(), rest.split_once("ErrorKind::")) else { continue };
            let variant = kind.split(|c: char| !c.is_alphanumeric()).next().unwrap();
            let kind = ErrorKind::ALL.iter().find(|kind| format!("{kind:?}") == variant).unwrap();
            // 499 is logged and never sent: its client has left.
            assert!(status == 499 || kind.statuses().contains(&status), "src/{name}: {status} is no status of {variant}");
            known += 1;
        }
    }
    assert!(known > 20, "the calls are not where they were: {known}");
}

#[test]
fn the_text_of_a_foreign_error_is_not_sent_to_a_client() {
    let files = sources();
    // `ScanError` is the gateway's own.
    let elsewhere = files.iter().filter(|(name, _)| !is_in(name, &["error.rs", "llm/validate.rs"]));
    let found = places(elsewhere, &["ApiError::"]).into_iter().filter(|line| line.contains(".to_string()")).collect::<Vec<_>>();
    none(&found, "log the error, and write a message for the client");
}

#[test]
fn a_response_header_of_ours_is_named_in_one_place() {
    let files = sources();
    let own = ["edge/response_headers.rs", "edge/cors.rs", "limit/headers.rs"];
    let elsewhere = files.iter().filter(|(name, _)| (name.starts_with("edge/") || name.starts_with("limit/")) && !is_in(name, &own));
    none(&places(elsewhere, &["from_static(\"x-", "\"x-tidegate-", "\"x-ratelimit-"]), "name it in src/edge/response_headers.rs");
}

#[test]
fn a_lint_is_silenced_with_a_reason() {
    let mut found = Vec::new();
    for (name, file) in &sources() {
        for opening in ["[allow(", "[expect("] {
            for (at, _) in file.code.match_indices(opening) {
                let attribute = file.code[at..].split(")]").next().unwrap();
                if !attribute.contains("reason = ") {
                    found.push(format!("src/{name}: {attribute})]"));
                }
            }
        }
    }
    none(&found, "say why: `reason = \"…\"`");
}

#[test]
fn every_file_says_why_it_exists_and_can_be_read() {
    let files = sources();
    let silent: Vec<_> = files.iter().filter(|(_, file)| !file.text.starts_with("//! ")).map(|(name, _)| name.clone()).collect();
    none(&silent, "begin with `//!`");
    let long = files.iter().map(|(name, file)| (name, file.text.lines().count())).filter(|(_, lines)| *lines > MAX_LINES);
    none(&long.map(|(name, lines)| format!("src/{name}: {lines} lines")).collect::<Vec<_>>(), "split them");
}

#[test]
fn a_secret_cannot_be_shown() {
    let files = sources();
    let secret = &files["secret.rs"].code;
    assert!(secret.contains("pub struct Secret("));
    let derived = secret.split("pub struct Secret(").next().unwrap().rsplit("#[derive(").next().unwrap();
    for shown in ["Debug", "Display", "Serialize", "PartialEq", "Hash"] {
        assert!(!derived.contains(shown), "Secret derives {shown}");
    }
    let ways = [
        "Debug for Secret",
        "Display for Secret",
        "Serialize for Secret",
        "Deref for Secret",
        "AsRef<str> for Secret",
        "From<Secret> for",
        "Borrow<str> for Secret",
    ];
    none(&places(files.iter(), &ways), "a secret has one way out: `expose`");
    none(
        &places(files.iter().filter(|(name, _)| !is_in(name, &EXPOSE)), &[".expose()"]),
        "a secret's text is needed where requests are signed",
    );
}

#[test]
fn the_terminal_belongs_to_the_command_line() {
    let files = sources();
    let printing = ["println!(", "print!(", "dbg!(", "stdout()", "stderr()"];
    let allowed = [&PRINT[..], &["telemetry/log.rs"]].concat();
    none(&places(files.iter().filter(|(name, _)| !is_in(name, &allowed)), &printing), "use the log");
}
