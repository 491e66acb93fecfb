//! The Rust client against the built `stratalog`: the scenarios of `log-client`, which any broker must pass.
//! `STRATALOG_TEST_BOOTSTRAP=host:port` runs them against a broker that is there, a real Kafka broker for example.
//!
//! The server is started once for all of them, on ports that the system chose.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, its helpers too"
)]

#[path = "../../log-client/tests/scenarios/mod.rs"]
#[expect(dead_code, reason = "those about groups wait until this server keeps groups")]
mod scenarios;
#[path = "process/server.rs"]
#[expect(dead_code, reason = "crashes and full disks are tested elsewhere")]
mod server;

#[test]
fn the_client_does_with_this_broker_what_it_does_with_kafka() {
    let directory = tempfile::tempdir().unwrap();
    let given = std::env::var("STRATALOG_TEST_BOOTSTRAP").ok();
    let own = given
        .is_none()
        .then(|| server::Place::new(directory.path()).start());
    let bootstrap = given.unwrap_or_else(|| own.as_ref().unwrap().kafka().to_string());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        scenarios::topics_are_created_grown_described_and_deleted(&bootstrap).await;
        scenarios::topic_settings_are_changed_and_taken_back(&bootstrap).await;
        scenarios::the_cluster_describes_itself(&bootstrap).await;
        scenarios::records_of_every_codec_are_acknowledged_with_their_offsets(&bootstrap).await;
        scenarios::every_kind_of_acknowledgement_works(&bootstrap).await;
        scenarios::offsets_are_found_by_time(&bootstrap).await;
        scenarios::what_the_broker_refuses_is_reported(&bootstrap).await;
        scenarios::records_come_back_as_they_were_sent(&bootstrap).await;
        scenarios::reading_begins_where_it_was_asked_to(&bootstrap).await;
    });
    if let Some(own) = own {
        assert!(own.stop().success(), "it stops in order");
    }
}
