//! What else arrives on a Kafka port, recognised by its first bytes, and what to say about it.
//!
//! Read as the length of a Kafka frame, each of these beginnings is far above any limit, so nothing that is Kafka is
//! ever mistaken for one.

use bytes::Bytes;

/// How many bytes [`WrongProtocol::recognise`] looks at.
pub(crate) const SIGNATURE_BYTES: usize = 4;

/// A protocol that is not Kafka's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WrongProtocol {
    /// The beginning of a TLS handshake.
    Tls,
    /// A request of HTTP/1.
    Http,
    /// The preface of HTTP/2 with prior knowledge.
    Http2,
    /// A greeting of SSH.
    Ssh,
    /// The header of a load balancer's PROXY protocol.
    ProxyHeader,
    /// The header of AMQP.
    Amqp,
}

const SIGNATURES: &[(&[u8; SIGNATURE_BYTES], WrongProtocol)] = &[
    (b"GET ", WrongProtocol::Http),
    (b"POST", WrongProtocol::Http),
    (b"PUT ", WrongProtocol::Http),
    (b"HEAD", WrongProtocol::Http),
    (b"DELE", WrongProtocol::Http),
    (b"PATC", WrongProtocol::Http),
    (b"OPTI", WrongProtocol::Http),
    (b"CONN", WrongProtocol::Http),
    (b"TRAC", WrongProtocol::Http),
    (b"PRI ", WrongProtocol::Http2),
    (b"SSH-", WrongProtocol::Ssh),
    (b"PROX", WrongProtocol::ProxyHeader),
    (b"\r\n\r\n", WrongProtocol::ProxyHeader),
    (b"AMQP", WrongProtocol::Amqp),
];

impl WrongProtocol {
    /// Recognises a protocol by the first bytes of a connection.
    pub(crate) fn recognise(first: [u8; SIGNATURE_BYTES]) -> Option<Self> {
        // A TLS record: handshake, version 3.0 to 3.4.
        if let [0x16, 0x03, 0..=4, _] = first {
            return Some(Self::Tls);
        }
        SIGNATURES
            .iter()
            .find(|(signature, _)| **signature == first)
            .map(|(_, protocol)| *protocol)
    }

    /// What the operator reads in the log, and what to do about it.
    pub(crate) fn explanation(self) -> &'static str {
        match self {
            Self::Tls => {
                "a TLS handshake on the plaintext Kafka port; set the client's security.protocol to PLAINTEXT, \
                 or point it at a TLS listener"
            }
            Self::Http => "an HTTP request on the Kafka port; the HTTP API has a port of its own",
            Self::Http2 => {
                "an HTTP/2 (or gRPC) request on the Kafka port; the HTTP API has a port of its own"
            }
            Self::Ssh => "an SSH greeting on the Kafka port",
            Self::ProxyHeader => {
                "a PROXY protocol header on the Kafka port; switch it off at the load balancer, it is not supported"
            }
            Self::Amqp => "an AMQP header on the Kafka port",
        }
    }

    /// What to answer before closing, when the protocol has plain words for it.
    pub(crate) fn answer(self, http_address: Option<&str>) -> Option<Bytes> {
        if self != Self::Http {
            return None;
        }
        let place = http_address.map_or_else(
            || "the port of the HTTP API".to_owned(),
            |address| format!("http://{address}"),
        );
        let body = format!("This port speaks the Kafka protocol, not HTTP. Use {place} for HTTP.\n");
        let head = format!(
            "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n",
            body.len()
        );
        Some(Bytes::from(head + &body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_recognised_by_their_first_bytes() {
        for (first, expected) in [
            (b"\x16\x03\x01\x02", Some(WrongProtocol::Tls)),
            (b"\x16\x03\x03\x00", Some(WrongProtocol::Tls)),
            (b"GET ", Some(WrongProtocol::Http)),
            (b"PRI ", Some(WrongProtocol::Http2)),
            (b"SSH-", Some(WrongProtocol::Ssh)),
            (b"\x00\x00\x00\x20", None),
            (b"\x7f\xff\xff\xff", None),
            (b"\x16\x04\x01\x02", None),
        ] {
            assert_eq!(WrongProtocol::recognise(*first), expected, "{first:?}");
        }
    }

    /// Otherwise a large frame of a client might be mistaken for one of them.
    #[test]
    fn every_signature_is_a_length_above_any_frame() {
        const FRAME_BYTES_MAX: i32 = 100 << 20;
        for (signature, protocol) in SIGNATURES {
            assert!(i32::from_be_bytes(**signature) > FRAME_BYTES_MAX, "{protocol:?}");
        }
        assert!(i32::from_be_bytes([0x16, 0x03, 0, 0]) > FRAME_BYTES_MAX);
    }

    #[test]
    fn http_is_answered_in_http() {
        let answer = WrongProtocol::Http.answer(Some("127.0.0.1:8080")).unwrap();
        let text = std::str::from_utf8(&answer).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"));
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())));
        assert!(body.contains("http://127.0.0.1:8080"));
        assert!(WrongProtocol::Tls.answer(None).is_none());
    }
}
