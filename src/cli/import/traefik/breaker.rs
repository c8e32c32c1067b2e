//! Expressions of circuit breakers: which share of what opens them.

/// What opens a breaker.
#[derive(Debug, PartialEq)]
pub(super) struct Opens {
    /// The share of failures.
    pub(super) ratio: f64,
    /// What is a failure.
    pub(super) count: Vec<String>,
    /// Whether it is made of several conditions.
    pub(super) several: bool,
    /// Whether some condition has no counterpart.
    pub(super) lost: bool,
}

/// Reads an expression; nothing where it asks for times alone.
///
/// # Errors
/// What Traefik does not understand of it.
pub(super) fn read(text: &str) -> Result<Option<Opens>, String> {
    let mut out: Option<Opens> = None;
    let (mut lost, mut conditions) = (false, 0);
    for part in text.split("||").flat_map(|part| part.split("&&")) {
        let part = part.trim().trim_matches(['(', ')']).trim();
        conditions += 1;
        let sign = ["<=", ">=", "==", "!=", ">", "<"]
            .into_iter()
            .find_map(|sign| part.split_once(sign).map(|(a, b)| (a, sign, b)));
        let Some((call, sign, number)) = sign else { return Err(format!("`{part}` compares nothing")) };
        if number.trim().is_empty() {
            return Err(format!("`{part}` compares with nothing"));
        }
        let number: f64 = number
            .trim()
            .trim_matches(')')
            .trim()
            .parse()
            .map_err(|_| format!("`{}` is no number", number.trim()))?;
        let call = call.trim();
        let (name, values) = call.split_once('(').ok_or_else(|| format!("`{call}` is no function"))?;
        let values: Vec<&str> = values
            .trim_end()
            .trim_end_matches(')')
            .split(',')
            .map(str::trim)
            .filter(|v| !v.is_empty())
            .collect();
        let more = sign.starts_with('>');
        let count = match (name.trim(), values.as_slice()) {
            ("NetworkErrorRatio", []) => vec!["connect".to_owned(), "reset".to_owned(), "timeout".to_owned()],
            ("ResponseCodeRatio", [from, to, _, _]) => vec![range(from, to)?],
            ("LatencyAtQuantileMS", [_]) => {
                lost = true;
                continue;
            }
            _ => return Err(format!("there is no function {name} with {} values", values.len())),
        };
        let ratio = number.clamp(0.01, 1.0);
        if !more {
            lost = true;
            continue;
        }
        out = Some(match out {
            None => Opens { ratio, count, several: false, lost: false },
            Some(opens) => Opens {
                ratio: opens.ratio.min(ratio),
                count: opens.count.into_iter().chain(count).collect(),
                ..opens
            },
        });
    }
    Ok(out.map(|opens| Opens { several: conditions > 1, lost, ..opens }))
}

/// Statuses from one to below another one.
fn range(from: &str, to: &str) -> Result<String, String> {
    let number = |text: &str| text.parse::<u16>().map_err(|_| format!("`{text}` is no status"));
    let (from, to) = (number(from)?.clamp(100, 599), number(to)?.saturating_sub(1).clamp(100, 599));
    Ok(if from >= to { from.to_string() } else { format!("{from}-{to}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_failures_are_read() {
        let opens = read("NetworkErrorRatio() > 0.90 || ResponseCodeRatio(500, 600, 0, 600) > 0.95");
        let opens = opens.expect("it is read").expect("it opens");
        assert!(opens.several && !opens.lost && opens.count.contains(&"500-599".to_owned()));
        assert!((opens.ratio - 0.9).abs() < 1e-9);
        assert_eq!(read("LatencyAtQuantileMS(50.0) > 100"), Ok(None));
        for text in [
            "",
            "LatencyAtQuantileMS(50) >",
            "Nothing() > 1",
            "NetworkErrorRatio()",
            "ResponseCodeRatio(a,b,c,d) > 1",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
