//! The repository as a set of texts by path, so that a rule can also be tried on a small one that was made up.
//!
//! What `.gitignore` names is left out, and so is git's own folder.

use std::collections::BTreeMap;
use std::path::Path;

/// The files of a repository, by path from its top, with slashes. A file that is not text has an empty one.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    files: BTreeMap<String, String>,
}

impl Tree {
    /// The repository that this test belongs to.
    pub(crate) fn of_repository() -> Self {
        let top = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .expect("the package lies in the workspace");
        let ignored =
            std::fs::read_to_string(top.join(".gitignore")).expect("the repository has a .gitignore");
        let mut ignored: Vec<&str> = ignored.lines().collect();
        ignored.push("/.git");
        let mut tree = Self::default();
        tree.read_folder(top, "", &ignored);
        tree
    }

    /// A repository of these files.
    pub(crate) fn planted(files: &[(&str, &str)]) -> Self {
        let files = files
            .iter()
            .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()));
        Self {
            files: files.collect(),
        }
    }

    fn read_folder(&mut self, top: &Path, folder: &str, ignored: &[&str]) {
        let entries = std::fs::read_dir(top.join(folder)).expect("the folder can be listed");
        for entry in entries {
            let entry = entry.expect("the folder can be listed");
            let name = entry.file_name().into_string().expect("names are UTF-8");
            let path = if folder.is_empty() {
                name.clone()
            } else {
                format!("{folder}/{name}")
            };
            if ignored.iter().any(|pattern| is_ignored(pattern, &path, &name)) {
                continue;
            }
            if entry.path().is_dir() {
                self.read_folder(top, &path, ignored);
            } else {
                let bytes = std::fs::read(entry.path()).expect("the file can be read");
                self.files
                    .insert(path, String::from_utf8(bytes).unwrap_or_default());
            }
        }
    }

    /// All files with their texts.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files
            .iter()
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// The Rust sources with their texts.
    pub(crate) fn sources(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files().filter(|(path, _)| has_suffix(path, "rs"))
    }

    /// The text of one file.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// Whether there is such a file or folder.
    pub(crate) fn has(&self, path: &str) -> bool {
        let folder = format!("{}/", path.trim_end_matches('/'));
        self.files.contains_key(path) || self.files.keys().any(|file| file.starts_with(&folder))
    }
}

/// Whether a file's name ends with a dot and `suffix`.
pub(crate) fn has_suffix(path: &str, suffix: &str) -> bool {
    Path::new(path).extension().is_some_and(|found| found == suffix)
}

/// The few forms of a pattern that our `.gitignore` has: from the top, a folder's name, a name's ending.
fn is_ignored(pattern: &str, path: &str, name: &str) -> bool {
    match (pattern.strip_prefix('/'), pattern.strip_prefix('*')) {
        (Some(from_top), _) => from_top.trim_end_matches('/') == path,
        (None, Some(ending)) => !ending.is_empty() && name.ends_with(ending),
        (None, None) => !pattern.is_empty() && pattern.trim_end_matches('/') == name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_is_read_without_what_git_ignores() {
        let tree = Tree::of_repository();
        assert!(tree.has("log-server/tests/tidy/tree.rs") && tree.has("log-core/src"));
        assert!(!tree.has("target") && !tree.has(".git") && !tree.has("log-core/sr"));
        assert!(
            tree.text("Cargo.toml")
                .expect("it is there")
                .contains("[workspace]")
        );
    }

    #[test]
    fn patterns() {
        for (pattern, path, is_match) in [
            ("/target", "target", true),
            ("/target", "a/target", false),
            ("node_modules/", "a/node_modules", true),
            ("*.profraw", "a/b.profraw", true),
            ("", "a", false),
        ] {
            let name = path.rsplit('/').next().unwrap_or_default();
            assert_eq!(is_ignored(pattern, path, name), is_match, "{pattern} {path}");
        }
    }
}
