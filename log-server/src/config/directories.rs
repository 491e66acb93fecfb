//! Which directories the broker keeps its data in: `log.dirs`, Kafka's key, or `data-dir`, which says the same.
//! Whether they can be used is found when they are opened.

use std::ffi::OsStr;
use std::path::PathBuf;

use super::keys::BrokerConfig;

impl BrokerConfig {
    /// The directories in their order; the first has the metadata log.
    #[must_use]
    pub fn log_directories(&self) -> &[PathBuf] {
        self.log_dirs.as_deref().unwrap_or(&self.data_dirs)
    }
}

/// Checks that the directories are named once, that at least one is, and that no comma in a path made two of one.
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
    let split = (0..directories.len()).find_map(|index| {
        let parts = directories.get(index..)?;
        (2..=parts.len()).find_map(|count| existing_whole(parts.get(..count)?))
    });
    split.map_or(Ok(()), Err)
}

/// Whether these were one path before they were split at its commas: then nobody wants its parts to be made.
fn existing_whole(parts: &[PathBuf]) -> Option<String> {
    let whole = [",", ", "].into_iter().find_map(|comma| {
        let names: Vec<_> = parts.iter().map(|path| path.as_os_str()).collect();
        let whole = PathBuf::from(names.join(OsStr::new(comma)));
        whole.is_dir().then_some(whole)
    })?;
    let names: Vec<_> = parts.iter().map(|path| path.display().to_string()).collect();
    Some(format!(
        "a comma separates data directories: {} are named, and there is a directory {}; rename that, or name it by a symbolic link \
         without a comma",
        names.join(" and "),
        whole.display()
    ))
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

    /// As it was written before there could be several: an empty directory would be served in its place.
    #[test]
    fn a_path_with_a_comma_is_not_split_in_silence() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        for name in ["a,b", "c, d", "e,f,g"] {
            check(&[("data-dir", &path(name))], Ok(&parts(&path(name))));
            std::fs::create_dir(path(name)).unwrap();
            for setting in [path(name), format!("/other,{}", path(name))] {
                let expected = format!(
                    "{} are named, and there is a directory {}",
                    parts(&path(name)).join(" and "),
                    path(name)
                );
                check(&[("data-dir", &setting)], Err(&expected));
            }
        }
    }

    fn parts(path: &str) -> Vec<&str> {
        path.split(',').map(str::trim).collect()
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
