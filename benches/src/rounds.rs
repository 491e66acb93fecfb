//! What programs that compare share: options, the rounds in which sides take turns, and the file that keeps the figures.
//!
//! The first of the rounds warms up and is dropped. Whoever is stopped keeps the figures of the rounds before.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::brokers::Programs;

/// What each of these programs can be told.
#[derive(Debug, Clone, Args)]
pub struct Setup {
    /// How many rounds count; one more is run first and dropped.
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Our server.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/stratalog"))]
    pub stratalog: PathBuf,
    /// Where brokers keep their data, and where the programs of clients are made.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/compare"))]
    pub directory: PathBuf,
    /// Writes every figure to this file, after each round.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

impl Setup {
    /// Where programs are; ours is there, and so is the directory.
    ///
    /// # Errors
    /// Our server was not built, or the directory cannot be made.
    pub fn programs(&self) -> anyhow::Result<Programs> {
        ensure!(
            self.stratalog.exists(),
            "{} is not there: `cargo build --release -p log-server -p log-bench` makes it",
            self.stratalog.display()
        );
        std::fs::create_dir_all(&self.directory)
            .with_context(|| format!("make {}", self.directory.display()))?;
        Ok(Programs {
            stratalog: self.stratalog.clone(),
            peers: Path::new(env!("CARGO_MANIFEST_DIR")).join("peers"),
            clients: self.directory.join("clients"),
        })
    }

    /// Writes the figures so far, where a file is wanted.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep(&self, figures: &impl Serialize) -> anyhow::Result<()> {
        let Some(path) = &self.json else {
            return Ok(());
        };
        let text = serde_json::to_string_pretty(figures)?;
        std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
    }
}

/// The sections that are wanted, in the program's order: those that are named, or all.
pub fn wanted<S: ValueEnum + PartialEq>(only: &[S]) -> Vec<S> {
    let mut sections = S::value_variants().to_vec();
    sections.retain(|section| only.is_empty() || only.contains(section));
    sections
}

/// The sides, each round beginning with another one.
pub fn in_turn<T>(sides: &[T], round: usize) -> impl Iterator<Item = &T> {
    sides.iter().cycle().skip(round).take(sides.len())
}

/// The rounds of one load after the other, and the figures of all of them.
#[derive(Debug)]
pub struct Rounds<F> {
    /// What was measured so far.
    pub figures: F,
    setup: Setup,
    under_way: Option<usize>,
    begun: Instant,
}

impl<F: Serialize> Rounds<F> {
    /// No round is under way yet.
    pub fn new(setup: &Setup, figures: F) -> Self {
        Self {
            figures,
            setup: setup.clone(),
            under_way: None,
            begun: Instant::now(),
        }
    }

    /// Begins the next round of `load`, and says so; behind the last one, none is under way, and another load may follow. The figures
    /// of the rounds before are in the file then.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn begin(&mut self, load: &str) -> anyhow::Result<Option<usize>> {
        let all = self.setup.rounds;
        let round = self.under_way.map_or(0, |round| round + 1);
        if self.under_way.is_some() && self.counts() {
            self.setup.keep(&self.figures)?;
        }
        self.under_way = (round <= all).then_some(round);
        if round == 0 {
            self.begun = Instant::now();
            self.say(&format!("{load}: round 0 of {all}"));
        } else if round <= all {
            let each = self.begun.elapsed() / u32::try_from(round)?;
            let left = each * u32::try_from(all + 1 - round)?;
            self.say(&format!("{load}: round {round} of {all}, about {left:.0?} left"));
        }
        Ok(self.under_way)
    }

    /// Prints the table, and writes the figures for the last time.
    ///
    /// # Errors
    /// Either cannot be written.
    pub fn end(&self, table: &str) -> anyhow::Result<()> {
        // First: a file that cannot be written must not take an hour's result with it.
        write!(std::io::stdout(), "{table}")?;
        self.setup.keep(&self.figures)
    }

    /// Whether figures of now count: all do but those of the first round.
    pub fn counts(&self) -> bool {
        self.under_way != Some(0)
    }

    /// Tells whoever waits.
    pub fn say(&self, what: &str) {
        let dropped = if self.counts() { "" } else { " (dropped)" };
        // Nobody may be listening.
        writeln!(std::io::stderr(), "{what}{dropped}").ok();
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Options {
        #[command(flatten)]
        setup: Setup,
        #[arg(long, value_delimiter = ',')]
        only: Vec<Section>,
    }

    #[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
    enum Section {
        First,
        Second,
        Third,
    }

    #[test]
    fn sections_come_in_their_order_and_an_unknown_one_is_told_the_others() {
        let sections = |words: &str| {
            let options = Options::try_parse_from(format!("bench {words}").split_whitespace())?;
            Ok::<_, clap::Error>(wanted(&options.only))
        };
        assert_eq!(sections("").unwrap().len(), 3);
        assert_eq!(
            sections("--only third,first").unwrap(),
            [Section::First, Section::Third]
        );
        let error = sections("--only fourth").unwrap_err().to_string();
        assert!(error.contains("first, second, third"), "{error}");
    }

    #[test]
    fn sides_take_turns() {
        let turns: Vec<String> = (0..4)
            .map(|round| in_turn(&["a", "b", "c"], round).copied().collect())
            .collect();
        assert_eq!(turns, ["abc", "bca", "cab", "abc"]);
        assert_eq!(in_turn::<u8>(&[], 7).count(), 0);
    }

    #[test]
    fn the_first_round_is_dropped_and_the_file_has_all_others_that_are_over() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("figures.json");
        let path = file.to_str().unwrap();
        let options = Options::parse_from(["bench", "--rounds", "2", "--json", path]);
        let mut rounds = Rounds::new(&options.setup, Vec::new());
        let kept = || {
            std::fs::read_to_string(&file)
                .map_or_else(|_| String::new(), |text| text.replace(char::is_whitespace, ""))
        };
        let mut seen = Vec::new();
        for load in ["one", "two"] {
            while let Some(round) = rounds.begin(load).unwrap() {
                seen.push(kept());
                if rounds.counts() {
                    rounds.figures.push(format!("{load}-{round}"));
                }
            }
        }
        assert!(rounds.counts(), "what comes behind the rounds counts");
        seen.push(kept());
        let after_one = r#"["one-1","one-2"]"#;
        assert_eq!(
            seen,
            [
                "",
                "",
                r#"["one-1"]"#,
                after_one,
                after_one,
                r#"["one-1","one-2","two-1"]"#,
                r#"["one-1","one-2","two-1","two-2"]"#
            ]
        );
    }
}
