//! The table of the APIs this broker serves: the versions it advertises, those it accepts, and how large a request may be.
//!
//! The ranges are those that Kafka 4.3 advertises for these APIs, never a mixture of releases: clients guess features
//! from them. `docs/PROTOCOL.md` shows the same table, and a test compares the two.
//!
//! Two rows differ from the rule "what is advertised is accepted". Produce is advertised from 0, because older librdkafka
//! drops compression otherwise (KAFKA-18659), while versions below 3 are refused as Kafka refuses them. And `InitProducerId`
//! ends at 5: version 6 belongs to two-phase commit, which is not served.

use log_core::protocol::{ApiKey, RequestPrefix};

use crate::metrics::front::FrontMetrics;

/// How large a request of an API may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameClass {
    /// Names, numbers and settings. A frame of these decodes into many times its size, so it must be small.
    Structure,
    /// Bytes that are not decoded with the request, a member's metadata or assignment or a client's metrics, under a few names. A leader's
    /// assignments for a large group are some megabytes. Such a frame passes [`request_guard`](crate::kafka::request_guard) before it is decoded.
    Opaque,
    /// Record batches, which are handed on without decoding.
    Records,
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Api {
    /// Which API.
    pub(crate) key: ApiKey,
    /// The lowest version that is advertised.
    pub(crate) advertised_min: i16,
    /// The lowest version that is answered.
    pub(crate) served_min: i16,
    /// The highest version that is advertised and answered.
    pub(crate) served_max: i16,
    /// How large its requests may be.
    pub(crate) frame_class: FrameClass,
}

impl Api {
    /// Whether a request of this version is answered.
    pub(crate) fn serves(&self, version: i16) -> bool {
        self.served_min <= version && version <= self.served_max
    }
}

const fn api(key: ApiKey, min: i16, max: i16) -> Api {
    Api {
        key,
        advertised_min: min,
        served_min: min,
        served_max: max,
        frame_class: FrameClass::Structure,
    }
}

/// A row whose requests carry bytes that are not decoded with them.
const fn opaque(key: ApiKey, min: i16, max: i16) -> Api {
    Api {
        frame_class: FrameClass::Opaque,
        ..api(key, min, max)
    }
}

/// All rows, in the order of their keys.
pub(crate) const APIS: &[Api] = &[
    Api {
        key: ApiKey::Produce,
        advertised_min: 0,
        served_min: 3,
        served_max: 13,
        frame_class: FrameClass::Records,
    },
    api(ApiKey::Fetch, 4, 18),
    api(ApiKey::ListOffsets, 1, 11),
    api(ApiKey::Metadata, 0, 13),
    api(ApiKey::OffsetCommit, 2, 10),
    api(ApiKey::OffsetFetch, 1, 10),
    api(ApiKey::FindCoordinator, 0, 6),
    opaque(ApiKey::JoinGroup, 0, 9),
    api(ApiKey::Heartbeat, 0, 4),
    api(ApiKey::LeaveGroup, 0, 5),
    opaque(ApiKey::SyncGroup, 0, 5),
    api(ApiKey::DescribeGroups, 0, 6),
    api(ApiKey::ListGroups, 0, 5),
    api(ApiKey::ApiVersions, 0, 4),
    api(ApiKey::CreateTopics, 2, 7),
    api(ApiKey::DeleteTopics, 1, 6),
    api(ApiKey::DeleteRecords, 0, 2),
    api(ApiKey::InitProducerId, 0, 5),
    api(ApiKey::OffsetForLeaderEpoch, 2, 4),
    api(ApiKey::AddPartitionsToTxn, 0, 5),
    api(ApiKey::AddOffsetsToTxn, 0, 4),
    api(ApiKey::EndTxn, 0, 5),
    api(ApiKey::WriteTxnMarkers, 1, 2),
    api(ApiKey::TxnOffsetCommit, 0, 5),
    api(ApiKey::DescribeConfigs, 1, 4),
    api(ApiKey::AlterConfigs, 0, 2),
    api(ApiKey::DescribeLogDirs, 1, 5),
    api(ApiKey::CreatePartitions, 0, 3),
    api(ApiKey::DeleteGroups, 0, 2),
    api(ApiKey::IncrementalAlterConfigs, 0, 1),
    api(ApiKey::OffsetDelete, 0, 0),
    api(ApiKey::DescribeCluster, 0, 2),
    api(ApiKey::DescribeProducers, 0, 0),
    api(ApiKey::DescribeTransactions, 0, 0),
    api(ApiKey::ListTransactions, 0, 2),
    api(ApiKey::ConsumerGroupHeartbeat, 0, 1),
    api(ApiKey::ConsumerGroupDescribe, 0, 1),
    api(ApiKey::GetTelemetrySubscriptions, 0, 0),
    opaque(ApiKey::PushTelemetry, 0, 0),
    api(ApiKey::ListConfigResources, 0, 1),
    api(ApiKey::DescribeTopicPartitions, 0, 0),
];

/// What to do with a request, known from its first eight bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It is served.
    Serve(&'static Api),
    /// `ApiVersions` in a version we do not know: answered in the layout of version 0 with error 35 (KIP-511), so that
    /// a newer client can come down to us.
    NegotiateDown,
    /// The API is not served; Kafka closes the connection, and so do we.
    UnknownApi,
    /// The version is not served; Kafka closes the connection, and so do we.
    UnsupportedVersion(&'static Api),
}

impl Admission {
    /// Whether it is served, and brings records.
    pub(crate) fn is_produce(self) -> bool {
        matches!(self, Self::Serve(api) if api.key == ApiKey::Produce)
    }
}

/// The row of an API, if it is served.
pub(crate) fn find(api_key: i16) -> Option<&'static Api> {
    APIS.iter().find(|api| api.key as i16 == api_key)
}

/// Numbers for each API, and for the front around them.
pub(crate) fn metrics() -> FrontMetrics {
    // The two whose answers come beside later requests (`dispatch`).
    let may_wait = |key| matches!(key, ApiKey::Produce | ApiKey::Fetch);
    FrontMetrics::new(
        APIS.iter()
            .map(|api| (api.key as i16, format!("{:?}", api.key), may_wait(api.key))),
    )
}

/// Decides about a request before any more of it is read.
pub(crate) fn admit(prefix: RequestPrefix) -> Admission {
    match find(prefix.api_key) {
        None => Admission::UnknownApi,
        Some(api) if api.serves(prefix.api_version) => Admission::Serve(api),
        Some(api) if api.key == ApiKey::ApiVersions => Admission::NegotiateDown,
        Some(api) => Admission::UnsupportedVersion(api),
    }
}

#[cfg(test)]
mod tests {
    use log_core::protocol::codec_versions;

    use super::*;

    fn prefix(api_key: i16, api_version: i16) -> RequestPrefix {
        RequestPrefix {
            api_key,
            api_version,
            correlation_id: 1,
        }
    }

    #[test]
    fn the_codec_reads_and_writes_every_version_that_is_served() {
        for api in APIS {
            let (min, max) = codec_versions(api.key);
            assert!(
                min <= api.served_min && api.served_max <= max,
                "{api:?}: {min} to {max}"
            );
        }
    }

    #[test]
    fn rows_stand_once_and_in_order() {
        assert!(APIS.is_sorted_by(|a, b| (a.key as i16) < (b.key as i16)));
        for api in APIS {
            assert!(
                api.advertised_min <= api.served_min && api.served_min <= api.served_max,
                "{api:?}"
            );
        }
    }

    #[test]
    fn requests_are_admitted_by_their_first_eight_bytes() {
        let produce = find(0).unwrap();
        for (key, version, expected) in [
            (0, 2, Admission::UnsupportedVersion(produce)),
            (0, 3, Admission::Serve(produce)),
            (0, 13, Admission::Serve(produce)),
            (0, 14, Admission::UnsupportedVersion(produce)),
            (18, 4, Admission::Serve(find(18).unwrap())),
            (18, 5, Admission::NegotiateDown),
            (18, -1, Admission::NegotiateDown),
            (18, i16::MAX, Admission::NegotiateDown),
            (22, 6, Admission::UnsupportedVersion(find(22).unwrap())),
            (999, 0, Admission::UnknownApi),
            (-1, 0, Admission::UnknownApi),
            // LeaderAndIsr, gone since 4.0.
            (4, 0, Admission::UnknownApi),
        ] {
            assert_eq!(
                admit(prefix(key, version)),
                expected,
                "API {key} version {version}"
            );
        }
    }

    #[test]
    fn the_page_shows_this_table() {
        let page =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/PROTOCOL.md")).unwrap();
        let rows: Vec<String> = page
            .lines()
            .skip_while(|line| *line != "<!-- begin: served APIs -->")
            .take_while(|line| *line != "<!-- end: served APIs -->")
            .filter(|line| line.starts_with("| ") && !line.starts_with("| key"))
            .map(|line| {
                line.split('|')
                    .take(5)
                    .map(str::trim)
                    .collect::<Vec<_>>()
                    .join("|")
            })
            .collect();
        let expected: Vec<String> = APIS
            .iter()
            .map(|api| {
                let key = api.key as i16;
                let (min, max) = (api.advertised_min, api.served_max);
                format!("|{key}|{:?}|{min}–{max}|{}–{max}", api.key, api.served_min)
            })
            .collect();
        assert_eq!(rows, expected, "docs/PROTOCOL.md and apis.rs differ");
    }
}
