//! Suggests existing names that are similar to an unknown one, with bounded work.

/// Maximum bytes of a name that are compared.
const MAX_NAME: usize = 128;
/// Maximum number of names that are compared.
const MAX_NAMES: usize = 1_000;
/// Maximum edit distance of a similar name.
const MAX_CHANGES: usize = 3;

/// Up to `count` of `names` similar to `name`, the most similar first.
pub fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>, count: usize) -> Vec<&'a str> {
    let name = cut(name);
    let limit = (name.len() / 3).clamp(1, MAX_CHANGES);
    let close = |other: &'a str| distance(name, cut(other), limit).map(|changes| (changes, other));
    let mut found: Vec<_> = names.take(MAX_NAMES).filter_map(close).collect();
    found.sort_by_key(|(changes, _)| *changes);
    found.into_iter().take(count).map(|(_, name)| name).collect()
}

fn cut(name: &str) -> &[u8] {
    name.as_bytes().get(..MAX_NAME).unwrap_or(name.as_bytes())
}

/// Edit distance; `None` above `limit`. Computes only the diagonal band of that width: at most `a.len() * (2 * limit +
/// 1)` steps.
fn distance(a: &[u8], b: &[u8], limit: usize) -> Option<usize> {
    if a.len().abs_diff(b.len()) > limit {
        return None;
    }
    let far = limit + 1;
    // `row[j]` is the distance between the processed part of `a` and the first `j` bytes of `b`.
    let mut row: Vec<usize> = (0..=b.len()).map(|j| j.min(far)).collect();
    for (i, x) in a.iter().enumerate() {
        let from = i.saturating_sub(limit);
        let to = (i + limit + 1).min(b.len());
        let mut diagonal = row.get(from).copied().unwrap_or(far);
        let mut left = if from == 0 { (i + 1).min(far) } else { far };
        if let Some(first) = row.get_mut(from) {
            *first = left;
        }
        for (y, slot) in b.iter().zip(row.iter_mut().skip(1)).take(to).skip(from) {
            let substituted = diagonal + usize::from(x != y);
            // Beyond the band the row above has no value.
            diagonal = *slot;
            left = substituted.min(left + 1).min(*slot + 1).min(far);
            *slot = left;
        }
    }
    row.last().copied().filter(|changes| *changes <= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The textbook table, without a band.
    fn full(a: &[u8], b: &[u8]) -> usize {
        match (a, b) {
            ([], rest) | (rest, []) => rest.len(),
            ([x, a1 @ ..], [y, b1 @ ..]) => (full(a1, b1) + usize::from(x != y)).min(full(a1, b) + 1).min(full(a, b1) + 1),
        }
    }

    #[test]
    fn the_band_gives_the_true_distance() {
        let words = ["", "a", "ab", "abc", "acb", "wieght", "weight", "weigh", "height", "xweight", "gpt-4", "gpt-4o", "gt4"];
        for a in words {
            for b in words {
                let true_distance = full(a.as_bytes(), b.as_bytes());
                let want = (true_distance <= 3).then_some(true_distance);
                assert_eq!(distance(a.as_bytes(), b.as_bytes(), 3), want, "{a} {b}");
            }
        }
    }

    #[test]
    fn the_closest_come_first_and_strangers_not_at_all() {
        let names = ["assistant", "qwen3-4b", "qwen3-8b", "qwen2-7b-vl"];
        assert_eq!(nearest("qwen3-8", names.iter().copied(), 3), ["qwen3-8b", "qwen3-4b"]);
        assert_eq!(nearest("qwen3-8", names.iter().copied(), 1), ["qwen3-8b"]);
        assert!(nearest("claude", names.iter().copied(), 3).is_empty());
        let long = "é".repeat(500);
        assert_eq!(nearest(&long, [long.as_str()].into_iter(), 3).len(), 1);
    }
}
