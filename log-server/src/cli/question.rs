//! Questions at the terminal, before something is lost.
//! Where nobody can be asked, nothing is done: the commands have a flag for that.

use std::fmt::Display;
use std::io::{self, IsTerminal as _};

use super::failure::{Failure, Outcome};
use super::output::Output;

/// Fails where standard input is no terminal: nobody could answer.
pub(crate) fn can_be_asked(work: &str, advice: &str) -> Outcome {
    if io::stdin().is_terminal() {
        return Ok(());
    }
    let message = format!("{work} needs a yes, and standard input is no terminal to ask at");
    Err(Failure::usage(message).advise(advice))
}

/// Asks. Without a yes, the command ends and says that nothing was done.
pub(crate) fn ask(question: impl Display, otherwise: &str, output: &Output) -> Outcome {
    output.ask(format_args!("{question} [y/N] "));
    let mut answer = String::new();
    io::stdin()
        .read_line(&mut answer)
        .map_err(|error| Failure::new(format!("cannot read the answer: {error}")))?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::new(otherwise)),
    }
}

/// `topic a`, or `topics a, b`.
pub(crate) fn named(noun: &str, names: &[&str]) -> String {
    let plural = if names.len() == 1 { "" } else { "s" };
    format!("{noun}{plural} {}", names.join(", "))
}
