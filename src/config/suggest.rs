//! "Did you mean": the nearest of some names by edit distance.

/// The nearest of `names` to what was written, when it is near enough to be a slip of the keyboard.
pub(super) fn nearest<'n>(written: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    // A name is never this long; the distance would take its square.
    if written.len() > 128 {
        return None;
    }
    let allowed = (written.chars().count() / 3).clamp(1, 3);
    let normal = |text: &str| text.to_ascii_lowercase().replace('-', "_");
    let written = normal(written);
    let measured = names.map(|name| (distance(&written, &normal(name)), name));
    measured.filter(|(far, _)| *far <= allowed).min_by_key(|(far, _)| *far).map(|(_, name)| name)
}

/// Damerau's distance with adjacent swaps (optimal string alignment): insertions, deletions, changes and
/// swaps, one each.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    let mut last_a = None;
    for (i, x) in a.chars().enumerate() {
        let mut row = vec![i + 1];
        for (j, &y) in b.iter().enumerate() {
            let at = |row: &[usize], index: usize| row.get(index).copied().unwrap_or(usize::MAX - 1);
            let mut least =
                (at(&above, j) + usize::from(x != y)).min(at(&above, j + 1) + 1).min(at(&row, j) + 1);
            if j > 0 && last_a == Some(y) && b.get(j - 1) == Some(&x) {
                least = least.min(at(&before, j - 1) + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut above, row);
        last_a = Some(x);
    }
    above.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_near_and_other_words_are_not() {
        let names = ["workers", "drain_delay", "drain_timeout", "bind"];
        for (written, want) in [
            ("worker", Some("workers")),
            ("wokrers", Some("workers")),
            ("drain-timeout", Some("drain_timeout")),
            ("Bind", Some("bind")),
            ("bnid", Some("bind")),
            ("color", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, names.into_iter()), want, "{written}");
        }
        assert_eq!((distance("", "abc"), distance("abc", ""), distance("ab", "ba")), (3, 3, 1));
    }
}
