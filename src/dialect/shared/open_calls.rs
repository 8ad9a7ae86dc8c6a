//! Which call each result of a tool answers, where the ids of calls repeat.
//!
//! Some servers number the calls of each answer anew (`call_0`), or give all calls of an answer one id, and clients send them
//! back so. A result then belongs to the nearest step of the model's that has an unanswered call of its id, and there to the
//! first such call.

use std::collections::{HashMap, VecDeque};

/// The calls of a conversation that have no result yet, while its turns are read in order.
#[derive(Debug, Default)]
pub(in crate::dialect) struct OpenCalls<'r> {
    /// The steps that have called under an id, in order. A step without calls has been answered.
    by_id: HashMap<&'r str, Vec<Step>>,
    made: usize,
}

/// Calls of one id that belong to one turn of the model's.
#[derive(Debug)]
struct Step {
    number: usize,
    open: VecDeque<usize>,
}

/// What a result answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dialect) enum Answers {
    /// The call with this number: its place among all calls of the conversation.
    Call(usize),
    /// Calls that have their results already.
    Nothing,
    /// No call has this id.
    Unknown,
}

impl<'r> OpenCalls<'r> {
    /// Adds a call that belongs to this step of the model's; returns its number.
    pub(in crate::dialect) fn add(&mut self, id: &'r str, step: usize) -> usize {
        let number = self.made;
        self.made += 1;
        let steps = self.by_id.entry(id).or_default();
        match steps.last_mut() {
            Some(last) if last.number == step => last.open.push_back(number),
            _ => steps.push(Step { number: step, open: VecDeque::from([number]) }),
        }
        number
    }

    /// Takes the call that a result of this id answers.
    pub(in crate::dialect) fn take(&mut self, id: &str) -> Answers {
        let Some(steps) = self.by_id.get_mut(id) else { return Answers::Unknown };
        while let Some(last) = steps.last_mut() {
            if let Some(number) = last.open.pop_front() {
                return Answers::Call(number);
            }
            steps.pop();
        }
        Answers::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_answers_the_nearest_step_and_there_the_first_call() {
        let mut calls = OpenCalls::default();
        assert_eq!([calls.add("a", 0), calls.add("b", 0), calls.add("a", 1), calls.add("a", 1)], [0, 1, 2, 3]);
        let taken: Vec<_> = ["a", "a", "a", "a", "b", "c"].into_iter().map(|id| calls.take(id)).collect();
        use Answers::{Call, Nothing, Unknown};
        assert_eq!(taken, [Call(2), Call(3), Call(0), Nothing, Call(1), Unknown]);
        assert_eq!((calls.add("a", 1), calls.take("a")), (4, Call(4)));
    }
}
