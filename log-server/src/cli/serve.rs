//! `stratalog serve`: its flags, and how they, the environment and a file become the broker's configuration.
//!
//! The flags are made from the table of keys ([`crate::config::keys`]); none is written down here but `--config`.

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, value_parser};

use crate::broker;
use crate::config::help;
use crate::config::keys::{BrokerConfig, KEYS};
use crate::config::properties::{ConfigProblem, ConfigProblems, FILE_VARIABLE, Layers};
use crate::logging;

const CONFIG_FLAG: &str = "config";

/// The flags that were given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServeArgs {
    /// The file, if one was named on the command line.
    pub config: Option<PathBuf>,
    /// Names of keys and their values.
    pub flags: Vec<(&'static str, String)>,
}

impl ServeArgs {
    /// The broker's configuration, from these flags and this process's environment.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its place.
    pub fn load(&self) -> Result<BrokerConfig, ConfigProblems> {
        // A variable that is not UTF-8 is none of ours: our names and values are text.
        let text = |text: OsString| text.into_string().ok();
        let variables = env::vars_os().filter_map(|(name, value)| Some((text(name)?, text(value)?)));
        self.load_with(variables.collect())
    }

    fn load_with(&self, variables: Vec<(String, String)>) -> Result<BrokerConfig, ConfigProblems> {
        let from_environment = variables.iter().find(|(name, _)| name == FILE_VARIABLE);
        let path = self
            .config
            .clone()
            .or_else(|| from_environment.map(|(_, path)| path.into()));
        let mut layers = Layers::default();
        if let Some(path) = path {
            layers.file(&path, &read(&path)?);
        }
        layers.environment(variables);
        layers.flags(self.flags.iter().map(|(name, value)| (*name, value.as_str())));
        layers.finish()
    }
}

/// Serves until a signal says "stop". What is wrong is said on standard error, with what to do about it.
///
/// Exit codes: 0 after an orderly stop, 1 when the broker could not start, 2 when the settings are wrong, 130 when a second
/// signal did not wait for the stop.
#[must_use]
pub fn run(arguments: &ServeArgs) -> ExitCode {
    let config = match arguments.load() {
        Ok(config) => config,
        Err(problems) => return fail(&problems, EXIT_SETTINGS),
    };
    if let Err(error) = logging::init(config.log_format, &config.log_level) {
        return fail(&error, EXIT_SETTINGS);
    }
    match broker::run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, EXIT_START),
    }
}

/// The broker could not start.
const EXIT_START: u8 = 1;
/// The settings are wrong; the same code that clap gives a wrong flag.
const EXIT_SETTINGS: u8 = 2;

fn fail(error: &dyn Error, code: u8) -> ExitCode {
    // Where standard error is closed, the code says it alone.
    drop(writeln!(io::stderr(), "error: {error}"));
    ExitCode::from(code)
}

fn read(path: &Path) -> Result<String, ConfigProblems> {
    fs::read_to_string(path).map_err(|error| {
        ConfigProblems(vec![ConfigProblem::Unreadable {
            path: path.to_owned(),
            reason: error.to_string(),
        }])
    })
}

impl FromArgMatches for ServeArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut arguments = Self::default();
        arguments.update_from_arg_matches(matches)?;
        Ok(arguments)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        if let Some(path) = matches.get_one::<PathBuf>(CONFIG_FLAG) {
            self.config = Some(path.clone());
        }
        for key in KEYS.iter() {
            if let Some(values) = matches.get_many::<String>(key.name) {
                let values: Vec<&str> = values.map(String::as_str).collect();
                self.flags.push((key.name, values.join(",")));
            }
        }
        Ok(())
    }
}

impl Args for ServeArgs {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new(CONFIG_FLAG)
            .long(CONFIG_FLAG)
            .value_name("PATH")
            .value_parser(value_parser!(PathBuf))
            .help("A TOML file with settings; environment variables and flags count more")
            .long_help(format!(
                "A TOML file with settings; environment variables and flags count more\n\n[env: {FILE_VARIABLE}]"
            ));
        command.arg(config).args(help::arguments())
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<ServeArgs, clap::Error> {
        let command = ServeArgs::augment_args(Command::new("serve").no_binary_name(true));
        ServeArgs::from_arg_matches(&command.try_get_matches_from(arguments)?)
    }

    #[test]
    fn flags_beat_the_environment_which_beats_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("stratalog.toml");
        fs::write(&path, "num.partitions = 2\nnode.id = 2\nmax.connections = 2\n").unwrap();
        let variables = vec![
            ("STRATALOG_CONFIG".to_owned(), path.to_str().unwrap().to_owned()),
            ("STRATALOG_NODE_ID".to_owned(), "3".to_owned()),
            ("STRATALOG_MAX_CONNECTIONS".to_owned(), "3".to_owned()),
        ];
        let config = parse(&["--max-connections", "4", "--log-retention-ms", "-1"])
            .unwrap()
            .load_with(variables)
            .unwrap();
        assert_eq!(
            (config.num_partitions, config.node_id, config.max_connections),
            (2, 3, 4)
        );
        assert_eq!(config.settings.value("log.retention.ms"), Some("-1"));
    }

    #[test]
    fn a_list_may_be_given_piece_by_piece() {
        let flags = parse(&["--data-dir", "/a", "--data-dir", "/b,/c", "--node-id", "3"])
            .unwrap()
            .flags;
        let expected =
            [("data-dir", "/a,/b,/c"), ("node.id", "3")].map(|(name, value)| (name, value.to_owned()));
        assert_eq!(flags, expected);
        let twice = parse(&["--node-id", "3", "--node-id", "4"])
            .unwrap_err()
            .to_string();
        assert!(twice.contains("--node-id"), "{twice}");
    }

    #[test]
    fn the_file_named_by_a_flag_counts_and_must_be_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("missing.toml");
        let arguments = parse(&["--config", path.to_str().unwrap()]).unwrap();
        let variables = vec![("STRATALOG_CONFIG".to_owned(), "other.toml".to_owned())];
        let problems = arguments.load_with(variables).unwrap_err().to_string();
        assert!(problems.contains("missing.toml"), "{problems}");
    }

    #[test]
    fn unknown_flags_are_refused_with_their_near_miss() {
        let error = parse(&["--num-partition", "3"]).unwrap_err().to_string();
        assert!(error.contains("--num-partitions"), "{error}");
        assert_eq!(parse(&[]).unwrap(), ServeArgs::default());
    }

    #[test]
    fn the_help_shows_every_key_and_the_short_help_a_few() {
        let mut command = ServeArgs::augment_args(Command::new("serve"));
        let (long, short) = (
            command.render_long_help().to_string(),
            command.render_help().to_string(),
        );
        for key in KEYS.iter() {
            assert!(long.contains(&format!("--{}", key.flag)), "{}", key.name);
            assert!(long.contains(&key.variable), "{}", key.name);
        }
        assert!(
            short.contains("--data-dir") && !short.contains("--log-segment-bytes"),
            "{short}"
        );
    }
}
