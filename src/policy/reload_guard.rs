//! Whether a reload may be carried out, by what it leaves of each pool: a file that was cut in half, or one with the wrong
//! network in it, is valid and takes the service down all the same. What is usable is counted by whoever asks.

use std::fmt;

use crate::model::name::PoolName;

/// What a reload leaves of a pool that is there before and after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// The pool.
    pub pool: PoolName,
    /// Its endpoints that are usable now.
    pub usable: usize,
    /// Those of them that stay.
    pub stay: usize,
    /// Its new endpoints.
    pub new: usize,
    /// Those of them that are usable, as their warm-up has it.
    pub warm: usize,
}

/// What is served by another pool after a reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// What: `route "web"` or `listener "db"`.
    pub what: String,
    /// The pool that serves it now.
    pub from: PoolName,
    /// Endpoints of that pool and its failover pools that are usable now.
    pub usable: usize,
    /// The pool that would.
    pub to: PoolName,
    /// Endpoints of that pool and its failover pools that would be usable.
    pub warm: usize,
}

/// Why a reload is refused. Its text names the numbers and the remedy.
#[derive(Debug, Clone, PartialEq)]
pub enum Refusal {
    /// Too little is left of a pool.
    Pool {
        /// What is left.
        left: Left,
        /// `process.reload_guard`.
        share: f64,
    },
    /// Nothing usable is behind something that is served now.
    Moved(Moved),
}

/// Everything that speaks against a reload. `share` is what must be left of the usable endpoints of each pool; 0 lets
/// everything pass. A pool of which nothing is usable now has nothing to lose, and one that the new configuration does not
/// have is no case: its writer has taken it away by name.
#[must_use]
pub fn judge(share: f64, left: &[Left], moved: &[Moved]) -> Vec<Refusal> {
    if share <= 0.0 {
        return Vec::new();
    }
    let pools = left.iter().filter(|left| is_too_little(left, share));
    let pools = pools.map(|left| Refusal::Pool { left: left.clone(), share });
    let moved = moved.iter().filter(|moved| moved.usable > 0 && moved.warm == 0);
    pools.chain(moved.cloned().map(Refusal::Moved)).collect()
}

#[expect(clippy::cast_precision_loss, reason = "pools have far fewer than 2^53 endpoints")]
fn is_too_little(left: &Left, share: f64) -> bool {
    ((left.stay + left.warm) as f64) < share * left.usable as f64
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pool { left: Left { pool, usable, stay, new, warm }, share } => {
                let after = stay + warm;
                write!(
                    out,
                    "pool \"{pool}\" would have {after} usable endpoints where {usable} are usable now: "
                )?;
                write!(out, "{stay} stay, and {warm} of {new} new ones are usable; ")?;
                write!(out, "process.reload_guard = {share} wants {share} of them left")
            }
            Self::Moved(Moved { what, from, usable, to, warm: _ }) => {
                write!(out, "{what} would go from pool \"{from}\", where {usable} endpoints are usable, ")?;
                write!(out, "to pool \"{to}\", where none is")
            }
        }?;
        write!(out, "; --force (?force) reloads all the same")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::name::NameError;

    fn left(usable: usize, stay: usize, new: usize, warm: usize) -> Result<Left, NameError> {
        Ok(Left { pool: PoolName::new("api")?, usable, stay, new, warm })
    }

    #[test]
    fn a_pool_keeps_its_share() -> Result<(), NameError> {
        for (case, refused) in [
            (left(4, 2, 0, 0)?, false),
            (left(4, 1, 0, 0)?, true),
            (left(4, 1, 3, 1)?, false),
            (left(4, 0, 4, 4)?, false),
            (left(4, 0, 4, 0)?, true),
            (left(1, 0, 1, 0)?, true),
            (left(3, 1, 0, 0)?, true),
            (left(0, 0, 5, 0)?, false),
        ] {
            assert_eq!(!judge(0.5, std::slice::from_ref(&case), &[]).is_empty(), refused, "{case:?}");
            assert!(judge(0.0, &[case], &[]).is_empty(), "0 is off");
        }
        Ok(())
    }

    #[test]
    fn what_is_served_is_not_sent_to_a_pool_of_which_nothing_is_usable() -> Result<(), NameError> {
        let moved = |usable, warm| {
            let (from, to) = (PoolName::new("blue")?, PoolName::new("green")?);
            Ok::<_, NameError>(Moved { what: "route \"all\"".to_owned(), from, usable, to, warm })
        };
        let refused = judge(0.5, &[], &[moved(3, 0)?]);
        let text = refused.first().map(ToString::to_string).unwrap_or_default();
        assert!(text.starts_with("route \"all\" would go from pool \"blue\", where 3 endpoints"), "{text}");
        assert!(text.contains("--force"), "{text}");
        assert!(judge(0.5, &[], &[moved(3, 1)?, moved(0, 0)?]).is_empty());
        Ok(())
    }

    #[test]
    fn a_refusal_names_pool_numbers_and_remedy() -> Result<(), NameError> {
        let refused = judge(0.5, &[left(4, 1, 3, 0)?], &[]);
        let text = refused.first().map(ToString::to_string).unwrap_or_default();
        assert_eq!(
            text,
            "pool \"api\" would have 1 usable endpoints where 4 are usable now: 1 stay, and 0 of 3 new ones are usable; \
             process.reload_guard = 0.5 wants 0.5 of them left; --force (?force) reloads all the same"
        );
        Ok(())
    }
}
