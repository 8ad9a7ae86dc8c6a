//! Where words stand that a provider has said.

/// Where the words that were said last stand in memory: all that is left of a slice after a decoder has let go of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Words {
    address: usize,
    length: usize,
}

impl Words {
    /// Those of a text.
    pub fn of(text: &str) -> Self {
        Self { address: text.as_ptr() as usize, length: text.len() }
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.length == 0
    }

    /// How many bytes they are.
    pub fn len(self) -> usize {
        self.length
    }

    /// What stands before and behind them in `bytes`; `None` where they are no part of it.
    pub fn cut(self, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
        let start = self.address.checked_sub(bytes.as_ptr() as usize).filter(|_| !self.is_empty())?;
        let end = start.checked_add(self.length)?;
        bytes.get(..start).zip(bytes.get(end..))
    }
}
