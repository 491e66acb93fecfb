//! Rust sources as tidy rules see them: code without comments and literals, and the paths that it names.
//!
//! This is not a parser. It knows enough of the language to tell a path in code from one in a comment or a
//! string, to follow `use` trees, and to resolve `super`; what macros make is not seen.

/// A path that the code names, with everything resolved that can be: it begins with `crate` or another crate's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reference {
    /// From 1.
    pub(crate) line: usize,
    /// `["crate", "log", "append"]`.
    pub(crate) path: Vec<String>,
}

impl Reference {
    /// Whether the path is `prefix` (`std::fs`) or lies below it.
    pub(crate) fn is_below(&self, prefix: &str) -> bool {
        let mut own = self.path.iter();
        prefix
            .split("::")
            .all(|segment| own.next().is_some_and(|own| own == segment))
    }
}

/// The module that a file is: `["log", "append"]` for `src/log/append.rs`, nothing for the root.
pub(crate) fn module_of(path_in_src: &str) -> Vec<String> {
    let mut segments: Vec<String> = path_in_src
        .trim_end_matches(".rs")
        .split('/')
        .map(str::to_owned)
        .collect();
    if segments
        .last()
        .is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str()))
    {
        segments.pop();
    }
    segments
}

/// The source with comments, strings and characters blanked out; lines stay where they are.
pub(crate) fn code_of(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(next) = rest.chars().next() {
        let word = rest
            .find(|c: char| !is_word(c))
            .map_or(rest, |end| rest.get(..end).unwrap_or(rest));
        let taken = if word.is_empty() {
            literal_or_comment(rest)
        } else if ["r", "br", "cr"].contains(&word) {
            raw_string(rest, word.len())
        } else {
            0
        };
        if 0 < taken {
            let (gone, behind) = rest.split_at(taken);
            code.extend(gone.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            rest = behind;
        } else {
            let length = if word.is_empty() {
                next.len_utf8()
            } else {
                word.len()
            };
            let (kept, behind) = rest.split_at(length);
            code.push_str(kept);
            rest = behind;
        }
    }
    code
}

/// The part of a source above the tests that end it. (`#[cfg(test)]` on anything but a module of tests is part of it.)
pub(crate) fn without_tests(source: &str) -> &str {
    let tests = source.match_indices("#[cfg(test)]\n").find(|(at, marker)| {
        source
            .get(at + marker.len()..)
            .is_some_and(|rest| rest.starts_with("mod tests {"))
    });
    tests.map_or(source, |(at, _)| source.split_at(at).0)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// How many bytes the comment, string or character at the front takes; 0 when there is none.
fn literal_or_comment(rest: &str) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return block_comment(rest);
    }
    if rest.starts_with('"') {
        return quoted(rest, '"');
    }
    if let Some(inside) = rest.strip_prefix('\'') {
        let mut characters = inside.chars();
        let is_escape = characters.next() == Some('\\');
        // Otherwise it is a lifetime.
        if is_escape || characters.next() == Some('\'') {
            return quoted(rest, '\'');
        }
    }
    0
}

fn block_comment(rest: &str) -> usize {
    let mut depth: usize = 0;
    let mut at = 0;
    while let Some(ahead) = rest.get(at..) {
        if ahead.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if ahead.starts_with("*/") {
            depth = depth.saturating_sub(1);
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            match ahead.chars().next() {
                Some(c) => at += c.len_utf8(),
                None => return at,
            }
        }
    }
    rest.len()
}

fn quoted(rest: &str, quote: char) -> usize {
    let mut characters = rest.char_indices().skip(1);
    while let Some((at, c)) = characters.next() {
        if c == '\\' {
            characters.next();
        } else if c == quote {
            return at + 1;
        }
    }
    rest.len()
}

/// `r#"…"#` behind its letters.
fn raw_string(rest: &str, letters: usize) -> usize {
    let behind = rest.get(letters..).unwrap_or_default();
    let hashes = behind.len() - behind.trim_start_matches('#').len();
    if !behind.get(hashes..).unwrap_or_default().starts_with('"') {
        return 0;
    }
    let inside = letters + hashes + 1;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = rest
        .get(inside..)
        .and_then(|text| text.find(&end))
        .unwrap_or(rest.len());
    (inside + length + end.len()).min(rest.len())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    /// `::`
    Path,
    Other(char),
}

fn tokens(code: &str) -> Vec<(usize, Token<'_>)> {
    let mut found = Vec::new();
    for (index, text) in code.lines().enumerate() {
        let mut rest = text.trim_start();
        while let Some(next) = rest.chars().next() {
            let word = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
            let (token, length) = if 0 < word {
                (Token::Word(rest.split_at(word).0), word)
            } else if rest.starts_with("::") {
                (Token::Path, 2)
            } else {
                (Token::Other(next), next.len_utf8())
            };
            found.push((index + 1, token));
            rest = rest.split_at(length).1.trim_start();
        }
    }
    found
}

/// Every path of at least two segments that the code of `module` names.
pub(crate) fn references(module: &[String], code: &str) -> Vec<Reference> {
    let tokens = tokens(code);
    let mut found = Vec::new();
    // The module at each place: the file's, and those that are written inside it with the depth of their braces.
    let mut here = module.to_vec();
    let mut inner: Vec<usize> = Vec::new();
    let mut depth: usize = 0;
    let mut at = 0;
    while let Some(&(line, token)) = tokens.get(at) {
        let ahead = |steps: usize| tokens.get(at + steps).map(|(_, token)| *token);
        match (token, ahead(1), ahead(2)) {
            (Token::Other('{'), ..) => depth += 1,
            (Token::Other('}'), ..) => {
                if inner.last() == Some(&depth) {
                    inner.pop();
                    here.pop();
                }
                depth = depth.saturating_sub(1);
            }
            (Token::Word("mod"), Some(Token::Word(name)), Some(Token::Other('{'))) => {
                here.push(name.to_owned());
                inner.push(depth + 1);
            }
            (Token::Word(head), Some(Token::Path), _) => {
                let mut prefix = vec![head.to_owned()];
                at += 2;
                if head == "super" || head == "self" {
                    let mut up = usize::from(head == "super");
                    while let (Some((_, Token::Word("super"))), Some((_, Token::Path))) =
                        (tokens.get(at), tokens.get(at + 1))
                    {
                        up += 1;
                        at += 2;
                    }
                    let kept = here.len().saturating_sub(up);
                    prefix = vec!["crate".to_owned()];
                    prefix.extend(here.iter().take(kept).cloned());
                }
                at = tree(&tokens, at, line, &prefix, &mut found);
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// Follows what stands behind `prefix::`, and returns the place behind it.
fn tree(
    tokens: &[(usize, Token<'_>)],
    mut at: usize,
    line: usize,
    prefix: &[String],
    found: &mut Vec<Reference>,
) -> usize {
    match tokens.get(at) {
        Some((_, Token::Other('{'))) => {
            at += 1;
            while let Some(&(line, token)) = tokens.get(at) {
                match token {
                    Token::Other('}') => return at + 1,
                    Token::Other(',') => at += 1,
                    _ => at = tree(tokens, at, line, prefix, found).max(at + 1),
                }
            }
            at
        }
        Some((_, Token::Word(word))) => {
            let mut path = prefix.to_vec();
            path.push((*word).to_owned());
            match (tokens.get(at + 1), tokens.get(at + 2)) {
                (Some((_, Token::Path)), Some((_, Token::Word(_) | Token::Other('{' | '*')))) => {
                    tree(tokens, at + 2, line, &path, found)
                }
                (Some((_, Token::Word("as"))), _) => {
                    found.push(Reference { line, path });
                    at + 3
                }
                _ => {
                    found.push(Reference { line, path });
                    at + 1
                }
            }
        }
        _ => {
            let path = prefix.to_vec();
            found.push(Reference { line, path });
            at + 1
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(module: &str, code: &str) -> Vec<String> {
        let module = module_of(module);
        references(&module, &code_of(code))
            .into_iter()
            .map(|reference| reference.path.join("::"))
            .collect()
    }

    #[test]
    fn comments_and_literals_are_no_code() {
        let source =
            "a // crate::b\n\"crate::c \\\" d\" /* e /* f */ g */ h r#\"i \" j\"# 'k' '\\'' b'l' m: &'n o";
        let code = code_of(source);
        let words: Vec<&str> = code.split_whitespace().collect();
        assert_eq!(words, ["a", "h", "b", "m:", "&'n", "o"]);
        assert_eq!(code.lines().count(), source.lines().count());
    }

    #[test]
    fn tests_end_a_source() {
        let source =
            "fn f() {}\n#[cfg(test)]\nfn g() {}\n#[cfg(test)]\nmod tests;\n#[cfg(test)]\nmod tests {\n}\n";
        assert!(without_tests(source).ends_with("mod tests;\n"));
        assert_eq!(without_tests("fn f() {}"), "fn f() {}");
    }

    #[test]
    fn trees_are_followed() {
        let code = "use crate::{a::{b, c as d}, e::*, f};\nuse std::io;\nfn g() { log_core::h::<u8>(); }";
        assert_eq!(
            named("x.rs", code),
            [
                "crate::a::b",
                "crate::a::c",
                "crate::e",
                "crate::f",
                "std::io",
                "log_core::h"
            ]
        );
    }

    #[test]
    fn super_is_counted_from_where_it_stands() {
        let code = "use super::a;\nuse super::super::b;\nuse self::c;\nmod tests { use super::*; use super::super::d; }\nuse super::e;";
        assert_eq!(
            named("x/y.rs", code),
            [
                "crate::x::a",
                "crate::b",
                "crate::x::y::c",
                "crate::x::y",
                "crate::x::d",
                "crate::x::e"
            ]
        );
        assert_eq!(named("x/mod.rs", "use super::a;"), ["crate::a"]);
    }

    #[test]
    fn lines_are_told() {
        let code = code_of("//! c\n\nuse crate::{\n    a,\n    b::c,\n};");
        let lines: Vec<usize> = references(&[], &code).iter().map(|one| one.line).collect();
        assert_eq!(lines, [4, 5]);
    }

    #[test]
    fn prefixes_are_whole_segments() {
        let reference = Reference {
            line: 1,
            path: ["std", "fs", "File"].map(str::to_owned).to_vec(),
        };
        assert!(reference.is_below("std::fs"));
        assert!(!reference.is_below("std::f"));
        assert!(!reference.is_below("std::fs::File::open"));
    }
}
