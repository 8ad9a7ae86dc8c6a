//! Problems as a terminal shows them: the place, the line with a caret, and a closing count.

use super::problem::Problem;
use crate::yaml::problem::Severity;
use std::fmt::Write as _;

/// Sequences of ECMA-48 (SGR) for the parts of a problem; all empty without colour.
struct Palette {
    bold: &'static str,
    error: &'static str,
    warning: &'static str,
    gutter: &'static str,
    reset: &'static str,
}

const PLAIN: Palette = Palette { bold: "", error: "", warning: "", gutter: "", reset: "" };
const COLOUR: Palette = Palette { bold: "\x1b[1m", error: "\x1b[1;31m", warning: "\x1b[1;33m", gutter: "\x1b[34m", reset: "\x1b[0m" };

/// Every problem with its line, then how many there are.
pub fn render(problems: &[Problem], colour: bool) -> String {
    let palette = if colour { COLOUR } else { PLAIN };
    let mut text = String::new();
    for problem in problems {
        let _infallible = write_problem(&mut text, problem, &palette);
    }
    if let Some(count) = count(problems) {
        text.push_str(&count);
        text.push('\n');
    }
    text
}

/// `2 errors, 1 warning`; `None` where there are none.
pub fn count(problems: &[Problem]) -> Option<String> {
    let of = |severity, name: &str| match problems.iter().filter(|problem| problem.severity == severity).count() {
        0 => None,
        1 => Some(format!("1 {name}")),
        many => Some(format!("{many} {name}s")),
    };
    let counts: Vec<_> = [of(Severity::Error, "error"), of(Severity::Warning, "warning")].into_iter().flatten().collect();
    (!counts.is_empty()).then(|| counts.join(", "))
}

fn write_problem(text: &mut String, problem: &Problem, palette: &Palette) -> std::fmt::Result {
    let Palette { bold, gutter, reset, .. } = palette;
    let (word, colour) = match problem.severity {
        Severity::Error => ("error", palette.error),
        Severity::Warning => ("warning", palette.warning),
    };
    let place = problem.at.map_or_else(String::new, |at| format!(":{}:{}", at.line, at.column));
    let message: String = problem.message.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    writeln!(text, "{bold}{}{place}:{reset} {colour}{word}:{reset} {message}", problem.file)?;
    if let (Some(at), Some(excerpt)) = (problem.at, &problem.excerpt) {
        let number = at.line.to_string();
        let (blank, indent) = (" ".repeat(number.len()), " ".repeat(excerpt.caret));
        writeln!(text, "  {gutter}{number} |{reset} {}", excerpt.text)?;
        writeln!(text, "  {gutter}{blank} |{reset} {indent}{colour}^{reset}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BAD: &str = "auth: none\nproviders:\n  one: { kind: opnai, api_key: \"sk-x\" } # old: sk-y\nservr: 1\n";

    fn problems() -> Vec<Problem> {
        crate::config::parse(BAD, "bad.yaml", &|_| None).err().unwrap_or_default()
    }

    #[test]
    fn a_problem_is_shown_with_its_line_a_caret_and_a_count() {
        let text = render(&problems(), false);
        assert!(
            text.contains("\n  3 |   one: { kind: opnai, api_key: … }\n    |                ^\nbad.yaml:4:1: error: unknown key `servr`"),
            "{text}"
        );
        assert!(text.contains("bad.yaml:3:16: error: `kind`: `opnai` is not") && text.ends_with("\n3 errors\n"), "{text}");
        assert_eq!(count(&[]), None);
    }

    #[test]
    fn colour_is_only_added() {
        let (with, mut without) = (render(&problems(), true), render(&problems(), true));
        assert!(with.contains("\x1b[1;31merror:\x1b[0m"), "{with:?}");
        for sequence in [COLOUR.bold, COLOUR.error, COLOUR.warning, COLOUR.gutter, COLOUR.reset] {
            without = without.replace(sequence, "");
        }
        assert_eq!(without, render(&problems(), false));
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let text = format!("routes: {{ a: {{ {} wrong: 1, {} }} }}\n", "limits: [],".repeat(20), "limits: [],".repeat(20));
        let problems = crate::config::parse(&text, "long.yaml", &|_| None).err().unwrap_or_default();
        let excerpts: Vec<_> = problems.iter().filter_map(|problem| problem.excerpt.as_ref()).collect();
        assert!(excerpts.len() > 30, "{problems:?}");
        for excerpt in &excerpts {
            assert!(excerpt.text.chars().count() <= 102 && excerpt.caret < excerpt.text.chars().count(), "{excerpt:?}");
            let shown: String = excerpt.text.chars().skip(excerpt.caret).take(6).collect();
            assert!(["limits", "wrong:", "{ limi"].contains(&shown.as_str()) || shown.starts_with("routes"), "{shown}");
        }
        assert!(excerpts.iter().any(|excerpt| excerpt.text.starts_with('…') && excerpt.text.ends_with('…')));
    }
}
