//! Lists a page at a time: `limit`, `after`, and the address of the next page.
//! The broker finds and cuts, so that a list of ten thousand costs a client no more than one of a hundred.

use std::fmt::Write as _;

use serde::Deserialize;

use crate::http::problem::Problem;

/// Rows of a page when nobody says how many.
const LIMIT: usize = 100;
/// Rows of a page at most.
const LIMIT_MAX: usize = 1000;

/// How many rows, checked.
pub(crate) fn limit(asked: Option<usize>) -> Result<usize, Problem> {
    match asked.unwrap_or(LIMIT) {
        limit @ 1..=LIMIT_MAX => Ok(limit),
        _ => Err(Problem::invalid(format!("limit is 1 to {LIMIT_MAX}"))),
    }
}

/// `search`, `limit` and `after`, as all lists of names have them.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Paging {
    pub(crate) limit: Option<usize>,
    pub(crate) after: Option<i32>,
}

/// A page and how many rows there are in all.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page<T> {
    pub(crate) rows: Vec<T>,
    pub(crate) total: usize,
    /// Whether there are rows behind it.
    pub(crate) has_more: bool,
}

impl<T> Page<T> {
    /// The first `limit` rows behind `after` of rows in order.
    pub(crate) fn cut(rows: impl Iterator<Item = T>, limit: usize, is_behind: impl Fn(&T) -> bool) -> Self {
        let mut page = Self {
            rows: Vec::with_capacity(limit.min(LIMIT)),
            total: 0,
            has_more: false,
        };
        for row in rows {
            page.total += 1;
            if !is_behind(&row) {
                continue;
            }
            if page.rows.len() < limit {
                page.rows.push(row);
            } else {
                page.has_more = true;
            }
        }
        page
    }
}

/// Whether a name contains a text, in any case of ASCII letters.
pub(crate) fn matches(name: &str, search: &str) -> bool {
    let (name, search) = (name.as_bytes(), search.as_bytes());
    search.is_empty()
        || name
            .windows(search.len())
            .any(|window| window.eq_ignore_ascii_case(search))
}

/// An address with parameters, those without a value left out.
pub(crate) fn address(path: &str, parameters: &[(&str, Option<&str>)]) -> String {
    let mut address = path.to_owned();
    let mut separator = '?';
    for (name, value) in parameters {
        if let Some(value) = value {
            address.push(separator);
            separator = '&';
            address.push_str(name);
            address.push('=');
            escape(&mut address, value);
        }
    }
    address
}

/// A name as a part of a path.
pub(crate) fn segment(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    escape(&mut text, name);
    text
}

fn escape(output: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            output.push(char::from(byte));
        } else {
            write!(output, "%{byte:02X}").expect("a string takes all");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_cut_and_the_rest_counted() {
        let page = Page::cut(["a", "b", "c", "d"].into_iter(), 2, |row| "a" < *row);
        assert_eq!(
            page,
            Page {
                rows: vec!["b", "c"],
                total: 4,
                has_more: true
            }
        );
        let page = Page::cut(["a", "b"].into_iter(), 2, |_| true);
        assert!(!page.has_more);
    }

    #[test]
    fn names_are_found_in_any_case() {
        assert!(matches("Orders", "ord") && matches("orders", "DER") && matches("orders", ""));
        assert!(!matches("orders", "ordersx"));
    }

    #[test]
    fn addresses_are_escaped() {
        assert_eq!(
            address(
                "/v1/groups",
                &[("search", Some("a b&c")), ("after", None), ("limit", Some("3"))]
            ),
            "/v1/groups?search=a%20b%26c&limit=3"
        );
        assert_eq!(segment("a/../b"), "a%2F..%2Fb");
    }
}
