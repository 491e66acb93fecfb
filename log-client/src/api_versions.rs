//! What a broker serves: the table of its `ApiVersions` response, the version to use of each API, and the features
//! of its cluster.
//!
//! Leaves the exchange itself to `connection`.

use log_core::protocol::messages::ApiVersionsResponseData;
use log_core::protocol::{ApiKey, codec_versions};

/// The APIs of one broker and their versions.
#[derive(Debug, Clone, Default)]
pub struct ApiVersions {
    /// By API key, sorted.
    ranges: Vec<(i16, (i16, i16))>,
    /// What the cluster has agreed on, by name.
    features: Vec<(String, i16)>,
}

/// Versions that the codec writes but that are not to be used: `InitProducerId` 6 belongs to the unfinished
/// two-phase commit.
const CEILINGS: [(ApiKey, i16); 1] = [(ApiKey::InitProducerId, 5)];

/// The versions this client speaks of an API, lowest and highest.
#[must_use]
pub fn client_versions(api: ApiKey) -> (i16, i16) {
    let (lowest, highest) = codec_versions(api);
    let ceiling = CEILINGS.iter().find(|(key, _)| *key == api);
    (
        lowest,
        ceiling.map_or(highest, |(_, ceiling)| highest.min(*ceiling)),
    )
}

impl ApiVersions {
    pub(crate) fn from_response(response: &ApiVersionsResponseData) -> Self {
        let mut ranges: Vec<_> = response
            .api_keys
            .iter()
            .map(|row| (row.api_key, (row.min_version, row.max_version)))
            .collect();
        ranges.sort_unstable();
        let features = response.finalized_features.iter();
        Self {
            ranges,
            features: features
                .map(|feature| (feature.name.to_string(), feature.max_version_level))
                .collect(),
        }
    }

    /// The level of a feature that the cluster has agreed on; 0 for one it does not name.
    #[must_use]
    pub fn feature(&self, name: &str) -> i16 {
        let found = self.features.iter().find(|(known, _)| known == name);
        found.map_or(0, |(_, level)| *level)
    }

    /// What the broker offers of an API, lowest and highest.
    #[must_use]
    pub fn broker_versions(&self, api: ApiKey) -> Option<(i16, i16)> {
        let index = self
            .ranges
            .binary_search_by_key(&(api as i16), |(key, _)| *key)
            .ok()?;
        self.ranges.get(index).map(|(_, range)| *range)
    }

    /// The highest version that both sides speak, if there is one.
    #[must_use]
    pub fn common(&self, api: ApiKey) -> Option<i16> {
        let (broker_lowest, broker_highest) = self.broker_versions(api)?;
        let (lowest, highest) = client_versions(api);
        let version = highest.min(broker_highest);
        (lowest.max(broker_lowest) <= version).then_some(version)
    }
}

#[cfg(test)]
mod tests {
    use log_core::protocol::messages::api_versions_response::ApiVersion;

    use super::*;

    fn table(rows: &[(ApiKey, i16, i16)]) -> ApiVersions {
        let api_keys = rows
            .iter()
            .map(|(api, lowest, highest)| ApiVersion {
                api_key: *api as i16,
                min_version: *lowest,
                max_version: *highest,
                ..ApiVersion::default()
            })
            .collect();
        ApiVersions::from_response(&ApiVersionsResponseData {
            api_keys,
            ..ApiVersionsResponseData::default()
        })
    }

    #[test]
    fn the_highest_common_version_is_taken() {
        let table = table(&[
            (ApiKey::Metadata, 0, 9),
            (ApiKey::Fetch, 4, 99),
            (ApiKey::Produce, 0, 2),
            (ApiKey::InitProducerId, 0, 6),
        ]);
        assert_eq!(table.common(ApiKey::Metadata), Some(9));
        assert_eq!(
            table.common(ApiKey::Fetch),
            Some(client_versions(ApiKey::Fetch).1)
        );
        assert_eq!(table.common(ApiKey::Produce), None, "versions 0 to 2 are gone");
        assert_eq!(table.common(ApiKey::InitProducerId), Some(5));
        assert_eq!(table.common(ApiKey::CreateTopics), None);
    }
}
