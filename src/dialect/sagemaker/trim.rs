//! Stop sequences taken off an answer's end: TGI counts the sequence that stopped it as a part of the text, OpenAI does
//! not.

/// Holds back what may be the beginning of a stop sequence.
#[derive(Debug)]
pub(super) struct Trim {
    stops: Vec<String>,
    held: String,
}

impl Trim {
    /// Looks for these; empty ones left out.
    pub(super) fn new(mut stops: Vec<String>) -> Self {
        stops.retain(|stop| !stop.is_empty());
        Self { stops, held: String::new() }
    }

    /// Takes more text and gives out what certainly belongs to the answer. At most the longest stop sequence stays.
    pub(super) fn push(&mut self, text: &str) -> String {
        self.held.push_str(text);
        let begins = |tail: &str| self.stops.iter().any(|stop| stop.starts_with(tail));
        let from = self.held.char_indices().map(|(at, _)| at).find(|at| self.held.get(*at..).is_some_and(begins));
        let rest = self.held.split_off(from.unwrap_or(self.held.len()));
        std::mem::replace(&mut self.held, rest)
    }

    /// The answer has ended: what is held back, unless it is the sequence that `stopped` it.
    pub(super) fn finish(&mut self, stopped: bool) -> String {
        let held = std::mem::take(&mut self.held);
        if stopped && self.stops.contains(&held) { String::new() } else { held }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_sequence_that_stopped_is_taken_off() {
        let say = |pieces: &[&str], stopped: bool| {
            let mut trim = Trim::new(vec!["END".into(), String::new(), "\n\n".into()]);
            let mut out: String = pieces.iter().map(|piece| trim.push(piece)).collect();
            out.push_str(&trim.finish(stopped));
            out
        };
        assert_eq!(say(&["The E", "ND of it ", "E", "N", "D"], true), "The END of it ");
        assert_eq!(say(&["The EN"], true), "The EN");
        assert_eq!(say(&["The END"], false), "The END");
        assert_eq!(say(&["ü\n", "\n"], true), "ü");
        assert_eq!(Trim::new(Vec::new()).push("E"), "E");
    }
}
