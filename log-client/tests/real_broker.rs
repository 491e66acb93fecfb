//! The client against a broker that somebody runs, Stratalog or a real Kafka broker:
//! `STRATALOG_TEST_BOOTSTRAP=127.0.0.1:9092 cargo test -p log-client --test real_broker -- --ignored`.
//!
//! The scenarios stand in `scenarios`; the server's own tests run them against the server.

#[cfg(test)]
mod scenarios;

#[cfg(test)]
use scenarios::{groups, transactions};

/// Where the broker is.
fn bootstrap() -> String {
    std::env::var("STRATALOG_TEST_BOOTSTRAP").expect("STRATALOG_TEST_BOOTSTRAP is host:port of a broker")
}

macro_rules! scenarios {
    ($module:ident, $address:expr; $($name:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            #[ignore = "needs a broker: STRATALOG_TEST_BOOTSTRAP=host:port"]
            async fn $name() {
                $module::$name($address).await;
            }
        )*
    };
}

scenarios! { scenarios, &bootstrap();
    topics_are_created_grown_described_and_deleted
    topic_settings_are_changed_and_taken_back
    the_cluster_describes_itself
    groups_are_listed_described_and_deleted
    records_of_every_codec_are_acknowledged_with_their_offsets
    every_kind_of_acknowledgement_works
    offsets_are_found_by_time
    what_the_broker_refuses_is_reported
    records_come_back_as_they_were_sent
    reading_begins_where_it_was_asked_to
}

// Groups of the consumer protocol need `group.consumer.min.session.timeout.ms=1000` and
// `group.consumer.min.heartbeat.interval.ms=100` on a real Kafka broker.
scenarios! { groups, bootstrap();
    members_share_partitions_and_hand_them_over
    members_of_both_protocols_share_a_group
    a_member_comes_back_to_what_it_committed
    a_pattern_finds_topics_and_partitions_of_the_future
    a_listener_hears_of_every_change_once
    a_member_that_does_not_poll_loses_its_partitions
    a_static_member_keeps_its_place
}

scenarios! { transactions, &bootstrap();
    only_what_was_committed_is_read
    the_newer_of_two_producers_fences_the_other
    a_record_that_fails_dooms_its_transaction
    offsets_count_with_their_transaction
    an_open_transaction_is_listed_described_and_aborted
    a_transaction_that_nobody_ends_is_aborted
    each_record_is_transformed_once
}
