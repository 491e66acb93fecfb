//! Which directories the broker keeps its data in: `log.dirs`, Kafka's key, or `data-dir`, which says the same.
//! Whether they can be used is found when they are opened.

use std::path::PathBuf;

use super::keys::BrokerConfig;

impl BrokerConfig {
    /// The directories in their order; the first has the metadata log.
    #[must_use]
    pub fn log_directories(&self) -> &[PathBuf] {
        self.log_dirs.as_deref().unwrap_or(&self.data_dirs)
    }
}

/// Checks that the directories are named once, and at least one is.
///
/// # Errors
/// What is wrong, as a sentence.
pub(super) fn check_directories(config: &BrokerConfig) -> Result<(), String> {
    let is_set = |name| config.settings.explicit(name).is_some();
    if is_set("data-dir") && is_set("log.dirs") {
        return Err("data-dir and log.dirs say the same thing: set one of them".to_owned());
    }
    let directories = config.log_directories();
    if directories.is_empty() || directories.iter().any(|path| path.as_os_str().is_empty()) {
        return Err("data-dir or log.dirs must name a directory, and no empty one".to_owned());
    }
    for (index, path) in directories.iter().enumerate() {
        if directories.iter().take(index).any(|other| other == path) {
            return Err(format!("the data directory {} is named twice", path.display()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::properties::Layers;

    fn check(flags: &[(&str, &str)], expected: Result<&[&str], &str>) {
        let mut layers = Layers::default();
        layers.flags(flags.iter().copied());
        match (layers.finish(), expected) {
            (Ok(config), Ok(expected)) => {
                let expected: Vec<PathBuf> = expected.iter().map(PathBuf::from).collect();
                assert_eq!(config.log_directories(), expected, "{flags:?}");
            }
            (Err(problems), Err(expected)) => {
                let problems = problems.to_string();
                assert!(problems.contains(expected), "{flags:?}: {problems}");
            }
            (found, expected) => panic!("{flags:?}: {found:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn directories_are_named_once_and_in_order() {
        check(&[], Ok(&["./stratalog-data"]));
        check(&[("data-dir", "/b")], Ok(&["/b"]));
        check(&[("data-dir", "/b, /a")], Ok(&["/b", "/a"]));
        check(&[("log.dirs", "/a,/b")], Ok(&["/a", "/b"]));
        check(&[("log.dirs", "/a"), ("data-dir", "/b")], Err("set one of them"));
        check(&[("log.dirs", "/a,/b,/a/")], Err("/a/ is named twice"));
        for none in ["", "/a,,/b"] {
            check(&[("log.dirs", none)], Err("must name a directory"));
        }
    }
}
