//! The layers of the broker's configuration: default, then file, then environment, then flags; the later one counts.
//!
//! A name that no key has is refused with its near miss, a value with what would be accepted, both with their place (file
//! and line, variable, flag). All problems are reported at once, not one per start.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::keys::{self, BrokerConfig, KEYS, Key, Typed};
use super::suggestion::did_you_mean;
use super::value::{ValueError, canonical};

/// What environment variables of ours begin with.
pub const VARIABLE_PREFIX: &str = "STRATALOG_";
/// The variable that names the file.
pub const FILE_VARIABLE: &str = "STRATALOG_CONFIG";
/// Variables of ours that are no settings: what the other commands, tests and tools go by. A broker that they start inherits them.
const OTHER_VARIABLES: [&str; 8] = [
    FILE_VARIABLE,
    "STRATALOG_BIN",
    "STRATALOG_BOOTSTRAP",
    "STRATALOG_FEEDS",
    "STRATALOG_SCHEDULES",
    "STRATALOG_SEED",
    "STRATALOG_SEQUENCES",
    "STRATALOG_UPDATE",
];
/// What more of them begin with.
const OTHER_PREFIXES: [&str; 3] = ["STRATALOG_CRASH_", "STRATALOG_FUZZ_", "STRATALOG_TEST_"];

/// Where a setting was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the file, at a line.
    File(PathBuf, usize),
    /// By an environment variable.
    Variable(String),
    /// By a flag of the command line.
    Flag(String),
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, line) => write!(formatter, "{}:{line}", path.display()),
            Self::Variable(name) => write!(formatter, "environment variable {name}"),
            Self::Flag(name) => write!(formatter, "--{name}"),
        }
    }
}

/// One thing that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigProblem {
    /// The file cannot be read.
    #[error("{}: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// The file is not TOML.
    #[error("{place}: {reason}")]
    Syntax {
        /// The line.
        place: Place,
        /// What the parser says.
        reason: String,
    },
    /// There is no such key.
    #[error("{place}: there is no key {name}{suggestion}")]
    UnknownKey {
        /// Where it stands.
        place: Place,
        /// Its name.
        name: String,
        /// The near miss, as the end of the sentence.
        suggestion: String,
    },
    /// A key is set twice in one file, once as a table and once with dots.
    #[error("{place}: {name} is set a second time")]
    Twice {
        /// The second place.
        place: Place,
        /// The key.
        name: &'static str,
    },
    /// The file gives a key something that is no value of a setting.
    #[error("{place}: {name} cannot be {found}")]
    NotAValue {
        /// Where it stands.
        place: Place,
        /// The key.
        name: String,
        /// What was found.
        found: &'static str,
    },
    /// The key does not accept the value.
    #[error("{place}: {name}: {source}")]
    Value {
        /// Where it stands.
        place: Place,
        /// The key.
        name: &'static str,
        /// Why not.
        source: ValueError,
    },
    /// The value fits its rule but not this machine.
    #[error("{name}: {value:?} does not fit this machine")]
    Unfit {
        /// The key.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// Two values contradict each other.
    #[error("{0}")]
    Conflict(String),
}

/// All that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigProblems(pub Vec<ConfigProblem>);

impl fmt::Display for ConfigProblems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if 0 < index {
                writeln!(formatter)?;
            }
            write!(formatter, "{problem}")?;
        }
        Ok(())
    }
}

/// A value that somebody set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// In its canonical spelling.
    pub value: String,
    /// By whom.
    pub place: Place,
}

/// The broker's settings as texts: those that were made, over the defaults of the table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    explicit: BTreeMap<&'static str, Setting>,
}

impl Settings {
    /// What somebody set, if anybody did.
    #[must_use]
    pub fn explicit(&self, name: &str) -> Option<&Setting> {
        self.explicit.get(name)
    }

    /// The value that counts: the one that was set, otherwise the default.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        match self.explicit.get(name) {
            Some(setting) => Some(&setting.value),
            None => keys::find(name)?.default,
        }
    }

    pub(super) fn typed<T: Typed>(&self, name: &'static str) -> Result<T, ConfigProblem> {
        let value = self.value(name);
        T::typed(value).ok_or_else(|| ConfigProblem::Unfit {
            name,
            value: value.unwrap_or_default().to_owned(),
        })
    }

    fn set(&mut self, key: &'static Key, text: &str, place: Place) -> Result<(), ConfigProblem> {
        match canonical(key.kind, key.rule, text) {
            Ok(value) => {
                self.explicit.insert(key.name, Setting { value, place });
                Ok(())
            }
            Err(source) => Err(ConfigProblem::Value {
                place,
                name: key.name,
                source,
            }),
        }
    }
}

/// Collects the layers, in their order.
#[derive(Debug, Default)]
pub struct Layers {
    settings: Settings,
    problems: Vec<ConfigProblem>,
}

impl Layers {
    /// Puts the settings of a TOML file on top. Dotted keys and tables mean the same: `num.partitions = 3` is
    /// `[num]` with `partitions = 3`; quotes are needed where one key is the beginning of another.
    pub fn file(&mut self, path: &Path, text: &str) {
        let lines = LineNumbers { path, text };
        match DeTable::parse(text) {
            Ok(table) => {
                let mut seen = BTreeSet::new();
                self.table(table.get_ref(), "", lines, &mut seen);
            }
            Err(error) => self.problems.push(ConfigProblem::Syntax {
                place: lines.place(error.span().map_or(0, |span| span.start)),
                reason: error.message().to_owned(),
            }),
        }
    }

    fn table(
        &mut self,
        table: &DeTable<'_>,
        prefix: &str,
        lines: LineNumbers<'_>,
        seen: &mut BTreeSet<&'static str>,
    ) {
        for (key, value) in table {
            let name = format!("{prefix}{}", key.get_ref());
            let place = lines.place(key.span().start);
            match (keys::find(&name), value.get_ref()) {
                (None, DeValue::Table(inner)) => self.table(inner, &format!("{name}."), lines, seen),
                (None, _) => self.unknown(name, place),
                (Some(key), value) => match text_of(value) {
                    Ok(_) if !seen.insert(key.name) => {
                        self.problems.push(ConfigProblem::Twice {
                            place,
                            name: key.name,
                        });
                    }
                    Ok(text) => self.set(key, &text, place),
                    Err(found) => self
                        .problems
                        .push(ConfigProblem::NotAValue { place, name, found }),
                },
            }
        }
    }

    /// Puts the settings of environment variables on top. Variables that are not ours are not looked at.
    pub fn environment(&mut self, variables: impl IntoIterator<Item = (String, String)>) {
        let mut ours: Vec<(String, String)> = variables
            .into_iter()
            .filter(|(name, _)| name.starts_with(VARIABLE_PREFIX) && !is_no_setting(name))
            .collect();
        ours.sort();
        for (name, text) in ours {
            let place = Place::Variable(name.clone());
            if let Some(key) = KEYS.iter().find(|key| key.variable == name) {
                self.set(key, &text, place);
            } else {
                let suggestion = did_you_mean(&name, KEYS.iter().map(|key| key.variable.as_str()));
                self.problems.push(ConfigProblem::UnknownKey {
                    place,
                    name,
                    suggestion,
                });
            }
        }
    }

    /// Puts the values of flags on top, given by their keys' names.
    pub fn flags<'a>(&mut self, flags: impl IntoIterator<Item = (&'a str, &'a str)>) {
        for (name, text) in flags {
            match keys::find(name) {
                Some(key) => self.set(key, text, Place::Flag(key.flag.clone())),
                None => self.unknown(name.to_owned(), Place::Flag(name.to_owned())),
            }
        }
    }

    /// The configuration, if nothing is wrong with it.
    ///
    /// # Errors
    /// Everything that is wrong, in the order of the layers.
    pub fn finish(mut self) -> Result<BrokerConfig, ConfigProblems> {
        if self.problems.is_empty() {
            match BrokerConfig::from_settings(self.settings) {
                Ok(config) => {
                    let checked =
                        super::effective::check_defaults(&config).map_err(|error| error.to_string());
                    let checked = checked.and_then(|()| super::directories::check_directories(&config));
                    match checked.and_then(|()| super::group::check_groups(&config)) {
                        Ok(()) => return Ok(config),
                        Err(conflict) => self.problems.push(ConfigProblem::Conflict(conflict)),
                    }
                }
                Err(problem) => self.problems.push(problem),
            }
        }
        Err(ConfigProblems(self.problems))
    }

    fn set(&mut self, key: &'static Key, text: &str, place: Place) {
        if let Err(problem) = self.settings.set(key, text, place) {
            self.problems.push(problem);
        }
    }

    fn unknown(&mut self, name: String, place: Place) {
        let suggestion = did_you_mean(&name, KEYS.iter().map(|key| key.name));
        self.problems.push(ConfigProblem::UnknownKey {
            place,
            name,
            suggestion,
        });
    }
}

/// Variables of ours that are no settings: those of the tests, and those that Kubernetes puts into every container
/// when a service happens to be called `stratalog` (`STRATALOG_SERVICE_HOST`, `STRATALOG_PORT_9092_TCP_ADDR`, …).
fn is_no_setting(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(VARIABLE_PREFIX) else {
        return true;
    };
    OTHER_VARIABLES.contains(&name)
        || OTHER_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || rest == "PORT"
        || rest == "SERVICE_HOST"
        || rest.starts_with("SERVICE_PORT")
        || rest
            .strip_prefix("PORT_")
            .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

/// A value of the file as the text that a flag would carry.
fn text_of(value: &DeValue<'_>) -> Result<String, &'static str> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Ok(number.as_str().to_owned()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map(|number| number.to_string())
            .map_err(|_| "a number beyond 64 bits"),
        DeValue::Float(number) => Ok(number.as_str().to_owned()),
        DeValue::Boolean(value) => Ok(value.to_string()),
        DeValue::Array(elements) => {
            let texts: Result<Vec<String>, _> = elements
                .iter()
                .map(|element| match element.get_ref() {
                    DeValue::Array(_) => Err("a list of lists"),
                    element => text_of(element),
                })
                .collect();
            Ok(texts?.join(","))
        }
        DeValue::Datetime(_) => Err("a date"),
        DeValue::Table(_) => Err("a table"),
    }
}

/// Turns byte positions into lines.
#[derive(Debug, Clone, Copy)]
struct LineNumbers<'a> {
    path: &'a Path,
    text: &'a str,
}

impl LineNumbers<'_> {
    fn place(self, position: usize) -> Place {
        let before = self.text.as_bytes().iter().take(position);
        let line = 1 + before.filter(|byte| **byte == b'\n').count();
        Place::File(self.path.to_owned(), line)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn load(file: &str, variables: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<BrokerConfig, String> {
        let mut layers = Layers::default();
        layers.file(Path::new("stratalog.toml"), file);
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        layers.environment(variables.iter().map(owned));
        layers.flags(flags.iter().copied());
        layers.finish().map_err(|problems| problems.to_string())
    }

    #[test]
    fn the_later_layer_counts() {
        let file = "num.partitions = 2\nconnections.max.idle.ms = 1000\n[log]\nsegment.bytes = 2097152\n";
        let variables = [("STRATALOG_NUM_PARTITIONS", "3"), ("PATH", "/bin")];
        let config = load(file, &variables, &[("num.partitions", "4")]).unwrap();
        assert_eq!(config.num_partitions, 4);
        assert_eq!(config.connections_max_idle, Duration::from_secs(1));
        assert_eq!(config.settings.value("log.segment.bytes"), Some("2097152"));
        assert_eq!(
            config.settings.explicit("log.segment.bytes").unwrap().place,
            Place::File("stratalog.toml".into(), 4)
        );
        assert_eq!(load(file, &variables, &[]).unwrap().num_partitions, 3);
        assert_eq!(load(file, &[], &[]).unwrap().num_partitions, 2);
        let defaults = load("", &[], &[]).unwrap();
        assert_eq!(defaults, BrokerConfig::default());
        assert_eq!(defaults.settings.value("log.retention.hours"), Some("168"));
        assert_eq!(defaults.settings.value("log.retention.ms"), None);
    }

    #[test]
    fn every_spelling_of_a_toml_value_is_understood() {
        let file = r#"
            "max.connections" = 1_000
            data-dir = '/var/lib/stratalog'
            auto.create.topics.enable = false
            log.cleaner.min.cleanable.ratio = 0.25
            log.cleanup.policy = ["compact", "delete"]
            socket.request.max.bytes = 0x100000
        "#;
        let config = load(file, &[], &[]).unwrap();
        assert_eq!(config.max_connections, 1000);
        assert_eq!(config.log_directories(), [Path::new("/var/lib/stratalog")]);
        assert!(!config.auto_create_topics_enable);
        assert_eq!(config.socket_request_max_bytes, 1 << 20);
        assert_eq!(
            config.settings.value("log.cleaner.min.cleanable.ratio"),
            Some("0.25")
        );
        assert_eq!(
            config.settings.value("log.cleanup.policy"),
            Some("compact,delete")
        );
    }

    #[test]
    fn everything_wrong_is_reported_with_its_place() {
        let file = "num.partitons = 3\n\nlog.segment.bytes = 1\nnode.id = 1979-05-27\nlog = 1\n";
        let variables = [
            ("STRATALOG_HTP_LISTEN", "x"),
            ("STRATALOG_PORT", "tcp://10.0.0.1:9092"),
            ("STRATALOG_PORT_9092_TCP_ADDR", "10.0.0.1"),
            ("STRATALOG_SERVICE_HOST", "10.0.0.1"),
            ("STRATALOG_SEED", "1"),
            ("STRATALOG_TEST_BOOTSTRAP", "127.0.0.1:1"),
        ];
        let report = load(
            "num.partitons = 3\n\nlog.segment.bytes = 1\nnode.id = 1979-05-27\n",
            &variables,
            &[("node.id", "x")],
        )
        .unwrap_err();
        let lines: Vec<&str> = report.lines().collect();
        let mut expected = vec![
            "stratalog.toml:1: there is no key num.partitons; did you mean num.partitions?",
            "stratalog.toml:3: log.segment.bytes: \"1\" is not valid: expected 1048576 or more",
            "stratalog.toml:4: node.id cannot be a date",
            "environment variable STRATALOG_HTP_LISTEN: there is no key STRATALOG_HTP_LISTEN; did you mean STRATALOG_HTTP_LISTEN?",
            "--node-id: node.id: \"x\" is not valid: expected a whole number: 0 or more",
        ];
        let mut sorted = lines.clone();
        sorted.sort_unstable();
        expected.sort_unstable();
        assert_eq!(sorted, expected);
        let syntax = load(file, &[], &[]).unwrap_err();
        assert!(syntax.starts_with("stratalog.toml:5: "), "{syntax}");
        let twice = load("node.id = 1\n\"node.id\" = 2\n", &[], &[]).unwrap_err();
        assert!(twice.contains("node.id is set a second time"), "{twice}");
    }

    #[test]
    fn defaults_of_topics_that_contradict_each_other_are_refused() {
        let flags = [
            ("log.cleaner.min.compaction.lag.ms", "10"),
            ("log.cleaner.max.compaction.lag.ms", "5"),
        ];
        let report = load("", &[], &flags).unwrap_err();
        assert!(report.contains("max.compaction.lag.ms"), "{report}");
    }
}
