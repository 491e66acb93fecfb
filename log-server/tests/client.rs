//! The Rust client against the built `stratalog`: the scenarios of `log-client`, which any broker must pass.
//! `STRATALOG_TEST_BOOTSTRAP=host:port` runs them against a broker that is there, a real Kafka broker for example.
//!
//! The server is started once for each set of them, on ports that the system chose.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, its helpers too"
)]

#[path = "client/older_cluster.rs"]
mod older_cluster;
#[path = "../../log-client/tests/scenarios/mod.rs"]
mod scenarios;
#[path = "process/server.rs"]
#[expect(dead_code, reason = "crashes and full disks are tested elsewhere")]
mod server;

use log_core::protocol::ApiKey;

use older_cluster::OlderCluster;
use scenarios::{groups, transactions};

/// Does something with the broker that was given, or with one of its own that has these settings.
fn with_broker<F: Future<Output = ()>>(settings: &[(&str, &str)], work: impl FnOnce(String) -> F) {
    let directory = tempfile::tempdir().unwrap();
    let given = std::env::var("STRATALOG_TEST_BOOTSTRAP").ok();
    let own = given.is_none().then(|| {
        let place = server::Place::new(directory.path());
        let place = settings
            .iter()
            .fold(place, |place, (name, value)| place.with(name, value));
        place.start()
    });
    let bootstrap = given.unwrap_or_else(|| own.as_ref().unwrap().kafka().to_string());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(work(bootstrap));
    if let Some(own) = own {
        assert!(own.stop().success(), "it stops in order");
    }
}

#[test]
fn the_client_does_with_this_broker_what_it_does_with_kafka() {
    with_broker(&[], |bootstrap| async move {
        scenarios::topics_are_created_grown_described_and_deleted(&bootstrap).await;
        scenarios::topic_settings_are_changed_and_taken_back(&bootstrap).await;
        scenarios::the_cluster_describes_itself(&bootstrap).await;
        scenarios::records_of_every_codec_are_acknowledged_with_their_offsets(&bootstrap).await;
        scenarios::every_kind_of_acknowledgement_works(&bootstrap).await;
        scenarios::offsets_are_found_by_time(&bootstrap).await;
        scenarios::what_the_broker_refuses_is_reported(&bootstrap).await;
        scenarios::records_come_back_as_they_were_sent(&bootstrap).await;
        scenarios::reading_begins_where_it_was_asked_to(&bootstrap).await;
        scenarios::groups_are_listed_described_and_deleted(&bootstrap).await;
    });
}

/// All at once, because members wait for each other most of the time.
#[test]
fn members_of_groups_do_with_this_broker_what_they_do_with_kafka() {
    let impatient = [
        ("group.consumer.min.session.timeout.ms", "1000"),
        ("group.consumer.session.timeout.ms", "3000"),
        ("group.consumer.min.heartbeat.interval.ms", "100"),
        ("group.consumer.heartbeat.interval.ms", "300"),
    ];
    with_broker(&impatient, |bootstrap| async move {
        let all = [
            tokio::spawn(groups::members_share_partitions_and_hand_them_over(
                bootstrap.clone(),
            )),
            tokio::spawn(groups::members_of_both_protocols_share_a_group(bootstrap.clone())),
            tokio::spawn(groups::a_member_comes_back_to_what_it_committed(
                bootstrap.clone(),
            )),
            tokio::spawn(groups::a_pattern_finds_topics_and_partitions_of_the_future(
                bootstrap.clone(),
            )),
            tokio::spawn(groups::a_listener_hears_of_every_change_once(bootstrap.clone())),
            tokio::spawn(groups::a_member_that_does_not_poll_loses_its_partitions(
                bootstrap.clone(),
            )),
            tokio::spawn(groups::a_static_member_keeps_its_place(bootstrap)),
        ];
        for scenario in all {
            scenario.await.unwrap();
        }
    });
}

/// What holds by both protocols.
async fn transactions_of_every_protocol(bootstrap: &str) {
    transactions::only_what_was_committed_is_read(bootstrap).await;
    transactions::the_newer_of_two_producers_fences_the_other(bootstrap).await;
    transactions::a_record_that_fails_dooms_its_transaction(bootstrap).await;
    transactions::offsets_count_with_their_transaction(bootstrap).await;
    transactions::an_open_transaction_is_listed_described_and_aborted(bootstrap).await;
    transactions::each_record_is_transformed_once(bootstrap).await;
}

#[test]
fn transactions_do_with_this_broker_what_they_do_with_kafka() {
    with_broker(&[], |bootstrap| async move {
        transactions_of_every_protocol(&bootstrap).await;
        transactions::a_transaction_that_nobody_ends_is_aborted(&bootstrap).await;
    });
}

/// The same by the first protocol, in which a producer says beforehand where it will write, and keeps its epoch. Whose transaction takes
/// too long is fenced by it for good.
#[test]
fn producers_of_the_first_protocol_have_their_transactions_too() {
    // Another broker says itself which protocol it speaks, and where it is.
    if std::env::var("STRATALOG_TEST_BOOTSTRAP").is_ok() {
        return;
    }
    let cluster = OlderCluster::bind();
    let (address, asked) = (cluster.address(), cluster.witness());
    with_broker(&[("kafka-advertise", &address.clone())], |broker| async move {
        cluster.serve(broker);
        transactions_of_every_protocol(&address).await;
    });
    for api in [ApiKey::AddPartitionsToTxn, ApiKey::AddOffsetsToTxn] {
        assert!(asked.version(api).is_some(), "nobody asked for {api:?}");
    }
    for (api, last_of_the_first) in [
        (ApiKey::EndTxn, 4),
        (ApiKey::TxnOffsetCommit, 4),
        (ApiKey::AddPartitionsToTxn, 3),
    ] {
        assert!(asked.version(api) <= Some(last_of_the_first), "{api:?}");
    }
}
