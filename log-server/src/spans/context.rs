//! Which trace a span belongs to, and who began it: W3C's trace context (`traceparent`, version 00).
//!
//! ```text
//! 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
//!    trace                            parent           1: it is recorded
//! ```

/// A trace's id; not zero.
pub type TraceId = [u8; 16];
/// A span's id; not zero.
pub type SpanId = [u8; 8];

/// A span and its place in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanContext {
    /// The trace.
    pub trace: TraceId,
    /// The span.
    pub span: SpanId,
    /// The one that caused it, in whoever asked.
    pub parent: Option<SpanId>,
}

impl SpanContext {
    /// The beginning of a trace of its own.
    #[must_use]
    pub fn root() -> Self {
        Self {
            // Not zero, and only those who look at 2^63 of them a second would ever see one twice.
            trace: (fastrand::u128(..) | 1).to_be_bytes(),
            span: span_id(),
            parent: None,
        }
    }

    /// A span of somebody else's trace.
    #[must_use]
    pub fn child_of(parent: &TraceParent) -> Self {
        Self {
            trace: parent.trace,
            span: span_id(),
            parent: Some(parent.span),
        }
    }
}

fn span_id() -> SpanId {
    (fastrand::u64(..) | 1).to_be_bytes()
}

/// What a request says of the trace it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    trace: TraceId,
    span: SpanId,
    /// Whether the trace is recorded.
    pub is_sampled: bool,
}

impl TraceParent {
    /// Reads the header; nothing where it is not as it should be. Later versions may have more behind what is read.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let [version] = hex(parts.next()?)?;
        let trace = hex(parts.next()?)?;
        let span = hex(parts.next()?)?;
        let [flags] = hex(parts.next()?)?;
        let is_whole = version != 0 || parts.next().is_none();
        (version != 0xff && is_whole && trace != TraceId::default() && span != SpanId::default()).then_some(
            Self {
                trace,
                span,
                is_sampled: flags & 1 == 1,
            },
        )
    }
}

/// Bytes from twice as many digits, in lower case.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

fn digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_continued_if_its_header_is_sound() {
        let parent = TraceParent::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
        assert!(parent.is_sampled);
        let child = SpanContext::child_of(&parent);
        assert_eq!(
            child.trace,
            0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes()
        );
        assert_eq!(child.parent, Some(0x00f0_67aa_0ba9_02b7_u64.to_be_bytes()));
        assert_ne!(Some(child.span), child.parent);
        assert!(
            !TraceParent::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00")
                .unwrap()
                .is_sampled
        );
        assert!(TraceParent::parse("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more").is_some());
        for wrong in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-ä4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceParent::parse(wrong), None, "{wrong}");
        }
    }
}
