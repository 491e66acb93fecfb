//! Entity tags: what a client that has an answer is to compare with before it asks for it again (RFC 9110).
//!
//! They are weak ones: an answer may come compressed or as it is, which is the same to whoever reads it and not the same bytes.

use axum::http::{HeaderMap, HeaderValue, header};

/// The tag of contents that stay the same as long as the program does.
#[derive(Debug, Clone)]
pub(crate) struct EntityTag(HeaderValue);

impl EntityTag {
    /// The tag of these parts together.
    pub(crate) fn of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hash = crc32fast::Hasher::new();
        for part in parts {
            hash.update(part);
        }
        let tag = format!("W/\"{}-{:08x}\"", env!("CARGO_PKG_VERSION"), hash.finalize());
        Self(HeaderValue::try_from(tag).expect("digits and letters"))
    }

    /// As it stands in `ETag`.
    pub(crate) fn value(&self) -> HeaderValue {
        self.0.clone()
    }

    /// Whether a client says in `If-None-Match` that it has these contents.
    pub(crate) fn is_known(&self, asked: &HeaderMap) -> bool {
        let opaque = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag).to_owned();
        let mine = self.0.to_str().map(opaque).unwrap_or_default();
        let values = asked.get_all(header::IF_NONE_MATCH).iter();
        let mut tags = values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','));
        tags.any(|tag| tag.trim() == "*" || opaque(tag.trim()) == mine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_may_name_several_tags_weak_or_not() {
        let tag = EntityTag::of([b"a".as_slice(), b"b"]);
        let text = tag.value().to_str().unwrap().to_owned();
        let strong = text.strip_prefix("W/").unwrap().to_owned();
        let is_known = |values: &[&str]| {
            let mut asked = HeaderMap::new();
            for value in values {
                asked.append(header::IF_NONE_MATCH, value.parse().unwrap());
            }
            tag.is_known(&asked)
        };
        assert!(is_known(&[&text]) && is_known(&[&strong]) && is_known(&["*"]));
        assert!(is_known(&[&format!("\"x\", {text}")]) && is_known(&["\"x\"", &text]));
        assert!(!is_known(&[]) && !is_known(&["\"x\""]) && !is_known(&[&strong.replace('"', "")]));
        assert_ne!(EntityTag::of([b"ac".as_slice()]).value(), tag.value());
    }
}
