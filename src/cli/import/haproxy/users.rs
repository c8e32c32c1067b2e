//! `userlist`: names and passwords, which stand in a file here, one for each list and each group that is asked for.

use super::super::report::Report;
use super::section::Section;

/// The file that the users of a list, or of one of its groups, are in.
#[must_use]
pub(super) fn file(list: &str, group: Option<&str>) -> String {
    let name = group.map_or_else(|| list.to_owned(), |group| format!("{list}-{group}"));
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' };
    format!("{}.htpasswd", name.chars().map(plain).collect::<String>())
}

/// Hashes that are read here, by how they begin.
const READ: [&str; 4] = ["$2", "$5$", "$6$", "$apr1$"];

/// Gives a section its verdicts.
pub(super) fn read(section: &Section, report: &mut Report) {
    let all = file(&section.name, None);
    report.approximated(
        section.at,
        format!("names and passwords are lines NAME:HASH of {all}, as htpasswd writes them: the lines below say how"),
    );
    for line in &section.statements {
        match line.word(0) {
            "group" => report.approximated(
                line.at,
                format!(
                    "a group that is asked for has a file of its own: {}",
                    file(&section.name, Some(line.word(1)))
                ),
            ),
            "user" => user(line, &all, report),
            other => report.wrong(line.at, format!("`{other}` is no keyword of `userlist`")),
        }
    }
}

fn user(line: &super::section::Statement, file: &str, report: &mut Report) {
    let behind = |name: &str| {
        let at = line.words.iter().position(|word| word == name)?;
        Some(line.word(at + 1))
    };
    let name = line.word(1);
    match (behind("password"), behind("insecure-password")) {
        (Some(hash), _) if READ.iter().any(|start| hash.starts_with(start)) => {
            report.approximated(line.at, format!("write it into {file}: {name}, a colon, and the hash as it stands here"));
        }
        (Some(_), _) => report.not_possible(
            line.at,
            format!("a hash of this kind is not read (bcrypt, SHA-crypt and $apr1$ are): htpasswd -B {file} {name}"),
        ),
        (None, Some(_)) => report.approximated(
            line.at,
            format!("no password stands in the clear: make the line with htpasswd -B {file} {name}"),
        ),
        (None, None) => report.wrong(line.at, "the user has no password"),
    }
}
