//! Rules about documents: links lead somewhere, names of files in prose exist, and nothing speaks of the machine
//! on which it was written.

use crate::files::is_of_tests;
use crate::tree::{Tree, has_suffix};

/// Words that have no place in the repository, in two halves so that this file does not have them either, and why.
const FORBIDDEN: [(&str, &str, &str); 14] = [
    ("/wo", "rk/", "a path of somebody's machine"),
    ("/tmp/", "plan", "a path of somebody's machine"),
    ("/tmp/", "wt/", "a path of somebody's machine"),
    ("/ho", "me/", "a path of somebody's machine"),
    ("/Us", "ers/", "a path of somebody's machine"),
    ("../sha", "red", "a path of somebody's machine"),
    ("DESI", "GN.md", "a page that is not in the repository"),
    ("STY", "LE.md", "a page that is not in the repository"),
    ("PEE", "RS.md", "a page that is not in the repository"),
    ("cra", "tes.io", "where packages come from is cargo's business"),
    ("py", "pi.org", "where packages come from is pip's business"),
    ("npm", "js.org", "where packages come from is npm's business"),
    ("proxy.go", "lang.org", "where modules come from is go's business"),
    (
        "repo.maven.",
        "apache.org",
        "where jars come from is Maven's business",
    ),
];

/// Files that tools write, and that name registries.
const WRITTEN_BY_TOOLS: [&str; 3] = ["Cargo.lock", "package-lock.json", "go.sum"];

/// Forbidden words.
pub(crate) fn check_words(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    for (path, text) in tree.files() {
        if WRITTEN_BY_TOOLS.iter().any(|name| path.ends_with(name)) {
            continue;
        }
        for (first, second, reason) in FORBIDDEN {
            let word = format!("{first}{second}");
            for (index, _) in text.lines().enumerate().filter(|(_, line)| line.contains(&word)) {
                problems.push(format!("{path}:{}: {word}: {reason}", index + 1));
            }
        }
    }
    problems
}

/// Links of the documents that lead nowhere, and names of files that do not exist.
pub(crate) fn check_links(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    for (path, text) in tree.files().filter(|(path, _)| has_suffix(path, "md")) {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for (line, text) in prose(text) {
            for target in links(text) {
                if let Some(problem) = check_link(tree, path, folder, target) {
                    problems.push(format!("{path}:{line}: {problem}"));
                }
            }
            for name in code_spans(text).filter(|name| is_path_of_ours(name)) {
                if !tree.has(name) {
                    problems.push(format!("{path}:{line}: there is no {name}"));
                }
            }
        }
    }
    for (path, text) in tree.sources() {
        let comments = text
            .lines()
            .enumerate()
            .filter(|(_, line)| line.trim_start().starts_with("//"));
        for (index, line) in comments {
            for name in documents_named(line).filter(|name| !tree.has(name)) {
                problems.push(format!("{path}:{}: there is no {name}", index + 1));
            }
        }
    }
    problems
}

/// The lines outside of fenced blocks, from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_fenced = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let is_fence = line.trim_start().starts_with("```");
        is_fenced ^= is_fence;
        (!is_fenced && !is_fence).then_some((index + 1, line))
    })
}

/// The targets of `[text](target)`.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
}

/// What stands between backticks.
fn code_spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// Whether it reads as a file or folder of this repository, and not as a pattern of several.
fn is_path_of_ours(text: &str) -> bool {
    let roots = [
        "log-core/",
        "log-server/",
        "log-client/",
        "benches/",
        "docs/",
        ".ci/",
    ];
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    roots.iter().any(|root| text.starts_with(root)) && text.chars().all(is_plain)
}

/// Names of documents in a comment.
fn documents_named(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("docs/").filter_map(|(at, _)| {
        let name = line.get(at..)?;
        let end = name.find(".md")?;
        let name = name.get(..end + 3)?;
        is_path_of_ours(name).then_some(name)
    })
}

fn check_link(tree: &Tree, document: &str, folder: &str, target: &str) -> Option<String> {
    if ["http://", "https://", "mailto:"]
        .iter()
        .any(|scheme| target.starts_with(scheme))
    {
        return None;
    }
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = if file.is_empty() {
        Some(document.to_owned())
    } else {
        resolve(folder, file)
    };
    let Some(path) = path.filter(|path| tree.has(path)) else {
        return Some(format!("the link {target} leads nowhere"));
    };
    let text = tree.text(&path).unwrap_or_default();
    let is_missing = !anchor.is_empty() && !headings(text).any(|heading| heading == anchor);
    is_missing.then(|| format!("the link {target} names a heading that is not there"))
}

/// The document with the map of the code.
const MAP: &str = "docs/ARCHITECTURE.md";

/// Sources that the map lacks or has twice, and rows of the map without a source.
///
/// A row `a/` stands for the folder's `mod.rs`, a row `a/*` for every file of the folder.
pub(crate) fn check_code_map(tree: &Tree) -> Vec<String> {
    let text = tree.text(MAP).unwrap_or_default();
    let map = between(text, "<!-- code map: begin -->", "<!-- code map: end -->");
    let mut rows: Vec<String> = Vec::new();
    let mut folders: Vec<&str> = Vec::new();
    for line in map.lines() {
        let name = code_spans(line).next();
        match name {
            Some(folder) if line.starts_with('#') => folders.push(folder),
            Some(file) if line.starts_with("| `") => {
                rows.push(format!("{}/{file}", folders.last().unwrap_or(&"")));
            }
            _ => {}
        }
    }
    let mut counts = vec![0_usize; rows.len()];
    let mut problems = Vec::new();
    for (path, _) in tree
        .sources()
        .filter(|(path, _)| path.contains("/src/") && !is_of_tests(path))
    {
        let holds: Vec<usize> = (0..)
            .zip(&rows)
            .filter(|(_, row)| names(row, path))
            .map(|(at, _)| at)
            .collect();
        match holds.as_slice() {
            [] => problems.push(format!("{MAP}: the code map has no row for {path}")),
            [_] => {}
            _ => problems.push(format!("{MAP}: the code map has several rows for {path}")),
        }
        for at in holds {
            if let Some(count) = counts.get_mut(at) {
                *count += 1;
            }
        }
    }
    for (row, count) in rows.iter().zip(counts) {
        if count == 0 {
            problems.push(format!(
                "{MAP}: the code map has a row for {row}, which is not there"
            ));
        }
    }
    problems
}

fn names(row: &str, path: &str) -> bool {
    if let Some(folder) = row.strip_suffix('*') {
        return path.strip_prefix(folder).is_some_and(|file| !file.contains('/'));
    }
    row == path
        || row
            .strip_suffix('/')
            .is_some_and(|folder| path == format!("{folder}/mod.rs"))
}

fn between<'a>(text: &'a str, begin: &str, end: &str) -> &'a str {
    let behind = text.split_once(begin).map_or("", |(_, behind)| behind);
    behind.split_once(end).map_or("", |(inside, _)| inside)
}

/// Functions that the same document names, `Type::function()`, and no source has.
pub(crate) fn check_functions(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    for (line, text) in prose(tree.text(MAP).unwrap_or_default()) {
        for call in code_spans(text).filter_map(|span| span.strip_suffix("()")) {
            let (owner, function) = call.rsplit_once("::").unwrap_or(("", call));
            let declared = [format!("fn {function}("), format!("fn {function}<")];
            let is_there = tree.sources().any(|(_, source)| {
                source.contains(owner) && declared.iter().any(|declared| source.contains(declared))
            });
            if !is_there {
                problems.push(format!("{MAP}:{line}: there is no {call}()"));
            }
        }
    }
    problems
}

/// The path from the top; none where the link leads out of the repository.
fn resolve(folder: &str, link: &str) -> Option<String> {
    let mut path: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in link.split('/').filter(|part| !["", "."].contains(part)) {
        if part == ".." {
            path.pop()?;
        } else {
            path.push(part);
        }
    }
    Some(path.join("/"))
}

/// The headings as links name them: lower case, blanks as dashes, punctuation gone.
fn headings(text: &str) -> impl Iterator<Item = String> {
    prose(text)
        .filter(|(_, line)| line.starts_with('#'))
        .map(|(_, line)| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            title
                .chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forbidden_words_are_found() {
        let (first, second, _) = FORBIDDEN[0];
        let text = format!("fine\nsee {first}{second}x");
        let planted = Tree::planted(&[("docs/a.md", &text), ("b/go.sum", &text)]);
        let expected = format!("docs/a.md:2: {first}{second}: a path of somebody's machine");
        assert_eq!(check_words(&planted), [expected]);
    }

    #[test]
    fn links_that_lead_nowhere_are_found() {
        let text = "# One title: with `code`\n[a](b.md) [b](../log-core/src/x.rs) [c](#one-title-with-code) \
            [d](b.md#here) [e](https://example.com/x)\n[f](c.md) and [g](../y.rs)\n[h](b.md#gone) [i](#gone)\n\
            [j](../../elsewhere.md)\n```\n[k](gone.md)\n```\n";
        let planted = Tree::planted(&[
            ("docs/a.md", text),
            ("docs/b.md", "## Here\n"),
            ("log-core/src/x.rs", ""),
        ]);
        assert_eq!(
            check_links(&planted),
            [
                "docs/a.md:3: the link c.md leads nowhere",
                "docs/a.md:3: the link ../y.rs leads nowhere",
                "docs/a.md:4: the link b.md#gone names a heading that is not there",
                "docs/a.md:4: the link #gone names a heading that is not there",
                "docs/a.md:5: the link ../../elsewhere.md leads nowhere",
            ]
        );
    }

    #[test]
    fn names_of_files_that_are_gone_are_found() {
        let planted = Tree::planted(&[
            (
                "README.md",
                "`log-core/src/x.rs` `log-core/src/y.rs` `log-core/src/*.rs` `docs/`",
            ),
            (
                "log-core/src/x.rs",
                "// see docs/a.md, docs/b.md and docs/<name>.md\n\"docs/c.md\"",
            ),
            ("docs/a.md", ""),
        ]);
        assert_eq!(
            check_links(&planted),
            [
                "README.md:1: there is no log-core/src/y.rs",
                "log-core/src/x.rs:1: there is no docs/b.md"
            ]
        );
    }

    #[test]
    fn a_map_that_does_not_fit_is_found() {
        let map = "`z/src`\n<!-- code map: begin -->\n### `a/src`\n| file | owns |\n| `lib.rs` | x |\n| `b/` | x |\n\
            | `c/*` | x |\n| `c/d.rs` | x |\n| `gone.rs` | x |\n### `e/src`\n| `lib.rs` | x |\n<!-- code map: end -->";
        let planted = Tree::planted(&[
            (MAP, map),
            ("a/src/lib.rs", ""),
            ("a/src/b/mod.rs", ""),
            ("a/src/b/new.rs", ""),
            ("a/src/b/tests.rs", ""),
            ("a/src/c/d.rs", ""),
            ("a/src/c/mod.rs", ""),
            ("e/src/lib.rs", ""),
            ("e/tests/f.rs", ""),
        ]);
        assert_eq!(
            check_code_map(&planted),
            [
                "docs/ARCHITECTURE.md: the code map has no row for a/src/b/new.rs",
                "docs/ARCHITECTURE.md: the code map has several rows for a/src/c/d.rs",
                "docs/ARCHITECTURE.md: the code map has a row for a/src/gone.rs, which is not there",
            ]
        );
    }

    #[test]
    fn functions_that_are_gone_are_found() {
        let planted = Tree::planted(&[
            (MAP, "`Log::append()` `run()`\n`Log::gone()` `Other::append()`"),
            ("a/src/log.rs", "struct Log;\nfn append(&self) {}\nfn run<T>() {}"),
        ]);
        assert_eq!(
            check_functions(&planted),
            [
                "docs/ARCHITECTURE.md:2: there is no Log::gone()",
                "docs/ARCHITECTURE.md:2: there is no Other::append()"
            ]
        );
    }
}
