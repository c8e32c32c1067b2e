//! Answers to some of the requests of a route: routes of their own, that are asked before it.

use super::super::region::Region;
use super::super::report::Report;
use super::matcher::{Narrowed, Test};
use super::route::Draft;
use super::treatment::Answer;
use super::web::Ready;

/// Writes out the answers to some of a draft's requests before the draft.
pub(super) fn branch(draft: &Draft, mut ready: Ready, out: &mut Vec<(Draft, Ready)>, report: &mut Report) {
    let passes = std::mem::take(&mut ready.treatment.passes);
    let mut inner = draft.clone();
    let mut answers = Vec::new();
    for (tests, answer) in passes {
        let at = answer.at();
        let rest = Ready {
            target: None,
            mirror: None,
            treatment: ready.treatment.answered(answer),
            ..ready.clone()
        };
        match narrowed(&inner.region, &tests) {
            Narrowed::To(region) => {
                answers.push((Draft { region: inner.region.clone(), ..draft.clone() }, rest));
                inner.region = region;
            }
            Narrowed::Empty => return out.push((inner, rest)),
            Narrowed::Impossible(why) => {
                if let Some(at) = at {
                    report.not_possible(at, format!("{why}: all requests get this answer"));
                }
                return out.push((inner, rest));
            }
        }
    }
    for branch in std::mem::take(&mut ready.treatment.branches) {
        let at = branch.treatment.end.as_ref().and_then(Answer::at);
        match narrowed(&inner.region, &branch.tests) {
            Narrowed::To(region) => {
                let own = Ready { treatment: branch.treatment, target: None, mirror: None, ..ready.clone() };
                let all = region == inner.region;
                out.push((Draft { region, ..draft.clone() }, own));
                if all {
                    answers.reverse();
                    return out.extend(answers);
                }
            }
            Narrowed::Empty => {}
            Narrowed::Impossible(why) => {
                if let Some(at) = at {
                    report.not_possible(at, format!("{why}: no request gets this answer"));
                }
            }
        }
    }
    out.push((inner, ready));
    answers.reverse();
    out.extend(answers);
}

/// The requests of a region to which the answer to all of these is yes.
fn narrowed(region: &Region, tests: &[Test]) -> Narrowed {
    let mut out = region.clone();
    for test in tests {
        match out.asked(test) {
            Narrowed::To(region) => out = region,
            other => return other,
        }
    }
    Narrowed::To(out)
}
