//! What the settings of groups must have in common, as Kafka demands it at a start.
//! Each by itself was checked by its rule.

use super::keys::BrokerConfig;

/// Checks that the settings of groups do not contradict each other.
///
/// # Errors
/// The first contradiction, as a sentence.
pub(super) fn check_groups(config: &BrokerConfig) -> Result<(), String> {
    let session = "group.consumer.session.timeout.ms";
    let heartbeat = "group.consumer.heartbeat.interval.ms";
    let rows = [
        (
            session,
            config.group_consumer_min_session_timeout_ms,
            config.group_consumer_session_timeout_ms,
            config.group_consumer_max_session_timeout_ms,
        ),
        (
            heartbeat,
            config.group_consumer_min_heartbeat_interval_ms,
            config.group_consumer_heartbeat_interval_ms,
            config.group_consumer_max_heartbeat_interval_ms,
        ),
        (
            "group.consumer.assignment.interval.ms",
            config.group_consumer_min_assignment_interval_ms,
            config.group_consumer_assignment_interval_ms,
            config.group_consumer_max_assignment_interval_ms,
        ),
        (
            "a classic member's session timeout",
            config.group_min_session_timeout_ms,
            config.group_max_session_timeout_ms,
            config.group_max_session_timeout_ms,
        ),
    ];
    for (name, min, value, max) in rows {
        if max < min {
            return Err(format!("{name} would have to lie between {min} and {max}"));
        }
        if value < min || max < value {
            return Err(format!("{name} is {value} and must lie between {min} and {max}"));
        }
    }
    if config.group_consumer_session_timeout_ms <= config.group_consumer_heartbeat_interval_ms {
        return Err(format!("{heartbeat} must be less than {session}"));
    }
    if config.group_consumer_assignors.is_empty() {
        return Err("group.consumer.assignors must name one".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::config::properties::Layers;

    #[test]
    fn contradictions_are_refused() {
        for (name, value, reason) in [
            (
                "group.consumer.session.timeout.ms",
                "44999",
                "between 45000 and 60000",
            ),
            (
                "group.consumer.heartbeat.interval.ms",
                "15001",
                "between 5000 and 15000",
            ),
            (
                "group.consumer.min.assignment.interval.ms",
                "1001",
                "between 1001 and 15000",
            ),
            (
                "group.min.session.timeout.ms",
                "1800001",
                "between 1800001 and 1800000",
            ),
            ("group.consumer.assignors", "", "must name one"),
        ] {
            let mut layers = Layers::default();
            layers.flags([(name, value)]);
            let problems = layers.finish().unwrap_err().to_string();
            assert!(problems.contains(reason), "{name}: {problems}");
        }
        let mut layers = Layers::default();
        layers.flags([
            ("group.consumer.max.heartbeat.interval.ms", "60000"),
            ("group.consumer.heartbeat.interval.ms", "45000"),
        ]);
        let problems = layers.finish().unwrap_err().to_string();
        assert!(problems.contains("must be less than"), "{problems}");
    }
}
