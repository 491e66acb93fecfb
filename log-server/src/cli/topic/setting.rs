//! `name=value` on the command line.
//! Only cuts it in two: what a name means, and which values it takes, is the broker's to say.

/// A setting and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) name: String,
    pub(crate) value: String,
}

/// Reads `name=value`; the value may be empty and may hold more `=`.
pub(crate) fn parse(text: &str) -> Result<Setting, String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok(Setting {
            name: name.trim().to_owned(),
            value: value.to_owned(),
        }),
        _ => Err(format!("{text:?} is not of the form NAME=VALUE")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_equals_sign_counts() {
        let check = |text: &str, expected: Option<(&str, &str)>| {
            let expected = expected.map(|(name, value)| Setting {
                name: name.to_owned(),
                value: value.to_owned(),
            });
            assert_eq!(parse(text).ok(), expected, "{text:?}");
        };
        check("retention.ms=60000", Some(("retention.ms", "60000")));
        check("a=b=c", Some(("a", "b=c")));
        check("a=", Some(("a", "")));
        check("=b", None);
        check("a", None);
        check("", None);
    }
}
