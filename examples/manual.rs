//! Writes the manual pages and the completions of shells into a folder, for packages: `cargo run --example manual -- DIR`.
//! They are made of what the program itself takes and of the reference of its configuration, so that they cannot differ.

use std::error::Error;
use std::path::PathBuf;

use plimsoll::cli::completions::{Shell, script};

/// Every key with its default and a line on it.
const REFERENCE: &str = include_str!("../conf/reference.toml");

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(std::env::args_os().nth(1).ok_or("usage: manual DIRECTORY")?);
    let (pages, completions) = (folder.join("man"), folder.join("completions"));
    std::fs::create_dir_all(&pages)?;
    std::fs::create_dir_all(&completions)?;
    clap_mangen::generate_to(plimsoll::cli::definition(), &pages)?;
    std::fs::write(pages.join("plimsoll.toml.5"), reference_page())?;
    for (shell, name) in
        [(Shell::Bash, "plimsoll"), (Shell::Zsh, "_plimsoll"), (Shell::Fish, "plimsoll.fish")]
    {
        std::fs::write(completions.join(name), script(shell))?;
    }
    Ok(())
}

/// `plimsoll.toml(5)`: the reference as it stands, line by line.
fn reference_page() -> String {
    let mut page = String::from(
        ".TH plimsoll.toml 5\n.SH NAME\nplimsoll.toml \\- configuration of the load balancer plimsoll\n.SH DESCRIPTION\n\
         Read from /etc/plimsoll/plimsoll.toml unless another file is named.\nplimsoll check says whether a file is valid.\n\
         Every key with its default:\n.PP\n.nf\n",
    );
    for line in REFERENCE.lines() {
        // A dot or a quote at the start would be a request to the formatter, which this hides.
        page.push_str("\\&");
        page.push_str(&line.replace('\\', "\\e").replace('-', "\\-"));
        page.push('\n');
    }
    page.push_str(".fi\n.SH SEE ALSO\nplimsoll(1)\n");
    page
}
