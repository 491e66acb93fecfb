//! Spans as a message: OpenTelemetry's `ExportTraceServiceRequest`.
//!
//! ```text
//! ExportTraceServiceRequest   1 resource spans
//!   ResourceSpans             1 resource (1 attributes), 2 scope spans
//!     ScopeSpans              1 scope (1 name, 2 version), 2 spans
//!       Span                  1 trace, 2 span, 4 parent, 5 name, 6 kind, 7 began, 8 ended, 9 attributes, 15 status
//!         KeyValue            1 key, 2 value: 1 text, 3 number
//!         Status              2 message, 3 code
//! ```

use super::span::{Span, Value};
use crate::protobuf::Writer;

/// `SPAN_KIND_SERVER`.
const SERVER: u64 = 2;
/// `STATUS_CODE_ERROR`.
const ERROR: u64 = 2;

/// The message, with what the resource is called.
pub(super) fn encode(spans: &[Span], resource: &[(&'static str, Value)]) -> Vec<u8> {
    let mut message = Writer::default();
    message.message(1, |resource_spans| {
        resource_spans.message(1, |attributes| attributes_of(attributes, 1, resource));
        resource_spans.message(2, |scope_spans| {
            scope_spans.message(1, |scope| {
                scope.bytes(1, b"stratalog");
                scope.bytes(2, env!("CARGO_PKG_VERSION").as_bytes());
            });
            for span in spans {
                scope_spans.message(2, |message| encode_span(message, span));
            }
        });
    });
    message.finish()
}

fn encode_span(message: &mut Writer, span: &Span) {
    message.bytes(1, &span.context.trace);
    message.bytes(2, &span.context.span);
    if let Some(parent) = &span.context.parent {
        message.bytes(4, parent);
    }
    message.bytes(5, span.name.as_bytes());
    message.varint(6, SERVER);
    message.fixed64(7, span.began_ns);
    message.fixed64(8, span.ended_ns);
    attributes_of(message, 9, &span.attributes);
    if let Some(error) = &span.error {
        message.message(15, |status| {
            status.bytes(2, error.as_bytes());
            status.varint(3, ERROR);
        });
    }
}

fn attributes_of(message: &mut Writer, field: u64, attributes: &[(&'static str, Value)]) {
    for (name, value) in attributes {
        message.message(field, |pair| {
            pair.bytes(1, name.as_bytes());
            pair.message(2, |any| match value {
                Value::Text(text) => any.bytes(1, text.as_bytes()),
                Value::Number(number) => any.varint(3, number.cast_unsigned()),
            });
        });
    }
}
