//! What a client must be able to do with any broker, as functions of the broker's address.
//!
//! Topics have random names, so that runs do not meet; each scenario deletes its own.

use log_client::admin::{Admin, ConfigChange, ConfigResource, ConfigSource, ConfigType, Intent, NewTopic};
use log_client::config::ClientConfig;
use log_core::model::TopicId;
use log_core::protocol::ErrorCode;

fn admin(bootstrap: &str) -> Admin {
    Admin::new(ClientConfig::new(bootstrap)).unwrap()
}

fn unique(name: &str) -> String {
    format!("client-test-{name}-{:012x}", fastrand::u64(..1 << 48))
}

/// Creates a topic and waits until its partitions have leaders.
async fn create(admin: &Admin, topic: NewTopic) {
    let name = topic.name.clone();
    let partitions = topic.partitions.unwrap_or(1);
    admin.create_topics(&[topic], Intent::Apply).await.unwrap()[0]
        .as_ref()
        .unwrap();
    let deadline = admin.cluster().api_deadline();
    for partition in 0..partitions {
        let partition = log_core::model::TopicPartition::new(name.as_str(), partition);
        admin.cluster().leader(&partition, deadline).await.unwrap();
    }
}

pub(crate) async fn topics_are_created_grown_described_and_deleted(bootstrap: &str) {
    let admin = admin(bootstrap);
    let name = unique("life");
    let topic = NewTopic::new(&name)
        .with_partitions(3)
        .with_config("retention.ms", "60000");

    let checked = admin
        .create_topics(std::slice::from_ref(&topic), Intent::ValidateOnly)
        .await
        .unwrap();
    assert!(checked[0].is_ok(), "{checked:?}");
    let missing = admin.describe_topics(&[&name]).await.unwrap();
    assert_eq!(
        missing[0].as_ref().unwrap_err().code(),
        Some(ErrorCode::UnknownTopicOrPartition)
    );

    let both = [topic.clone(), NewTopic::new("not a valid name")];
    let created = admin.create_topics(&both, Intent::Apply).await.unwrap();
    let first = created[0].as_ref().unwrap();
    assert_eq!((first.name.as_str(), first.partitions), (name.as_str(), 3));
    assert_ne!(first.id, TopicId::ZERO);
    assert_eq!(
        created[1].as_ref().unwrap_err().code(),
        Some(ErrorCode::InvalidTopicException)
    );
    let again = admin.create_topics(&[topic], Intent::Apply).await.unwrap();
    assert_eq!(
        again[0].as_ref().unwrap_err().code(),
        Some(ErrorCode::TopicAlreadyExists)
    );
    let bad = NewTopic::new(unique("bad")).with_config("no.such.setting", "1");
    let refused = admin.create_topics(&[bad], Intent::Apply).await.unwrap();
    assert_eq!(
        refused[0].as_ref().unwrap_err().code(),
        Some(ErrorCode::InvalidConfig)
    );

    admin
        .create_partitions(&name, 5, Intent::ValidateOnly)
        .await
        .unwrap();
    admin.create_partitions(&name, 5, Intent::Apply).await.unwrap();
    let fewer = admin
        .create_partitions(&name, 2, Intent::Apply)
        .await
        .unwrap_err();
    assert_eq!(fewer.code(), Some(ErrorCode::InvalidPartitions));

    let last = log_core::model::TopicPartition::new(name.as_str(), 4);
    admin
        .cluster()
        .leader(&last, admin.cluster().api_deadline())
        .await
        .unwrap();
    let described = admin.describe_topics(&[&name]).await.unwrap();
    let described = described[0].as_ref().unwrap();
    assert_eq!((described.id, described.partitions.len()), (first.id, 5));
    let listed = admin.list_topics().await.unwrap();
    let listed = listed.iter().find(|topic| *topic.name == name).unwrap();
    assert_eq!(
        (listed.id, listed.partitions, listed.is_internal),
        (first.id, 5, false)
    );

    let deleted = admin
        .delete_topics(&[&name, "client-test-never-there"])
        .await
        .unwrap();
    assert!(deleted[0].is_ok());
    assert_eq!(
        deleted[1].as_ref().unwrap_err().code(),
        Some(ErrorCode::UnknownTopicOrPartition)
    );
}

pub(crate) async fn topic_settings_are_changed_and_taken_back(bootstrap: &str) {
    let admin = admin(bootstrap);
    let name = unique("settings");
    create(&admin, NewTopic::new(&name)).await;
    let topic = ConfigResource::Topic(name.clone());
    let setting = |wanted: &'static str| {
        let (admin, topic) = (admin.clone(), topic.clone());
        async move {
            let entries = admin.describe_configs(&[topic]).await.unwrap().remove(0).unwrap();
            entries.into_iter().find(|entry| entry.name == wanted).unwrap()
        }
    };
    let default = setting("retention.ms").await;
    assert_eq!(
        (default.value.as_deref(), default.source, default.kind),
        (Some("604800000"), ConfigSource::Default, ConfigType::Long)
    );
    assert!(default.documentation.is_some_and(|text| !text.is_empty()));

    let set = |name: &str, value: &str| (name.to_owned(), ConfigChange::Set(value.to_owned()));
    let changes = [set("retention.ms", "1000"), set("max.message.bytes", "2000")];
    admin
        .alter_configs(&topic, &changes, Intent::ValidateOnly)
        .await
        .unwrap();
    assert_eq!(setting("retention.ms").await.source, ConfigSource::Default);
    admin
        .alter_configs(&topic, &changes, Intent::Apply)
        .await
        .unwrap();
    let changed = setting("retention.ms").await;
    assert_eq!(
        (changed.value.as_deref(), changed.source),
        (Some("1000"), ConfigSource::Topic)
    );
    assert_eq!(changed.synonyms[0].source, ConfigSource::Topic);

    let wrong = [set("retention.ms", "soon")];
    let refused = admin
        .alter_configs(&topic, &wrong, Intent::Apply)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::InvalidConfig));

    let back = [("retention.ms".to_owned(), ConfigChange::Delete)];
    admin.alter_configs(&topic, &back, Intent::Apply).await.unwrap();
    assert_eq!(setting("retention.ms").await.source, ConfigSource::Default);
    assert_eq!(setting("max.message.bytes").await.value.as_deref(), Some("2000"));

    let policies = [(
        "cleanup.policy".to_owned(),
        ConfigChange::Append("compact".to_owned()),
    )];
    admin
        .alter_configs(&topic, &policies, Intent::Apply)
        .await
        .unwrap();
    assert_eq!(
        setting("cleanup.policy").await.value.as_deref(),
        Some("delete,compact")
    );
    admin.delete_topics(&[&name]).await.unwrap()[0].as_ref().unwrap();
}

pub(crate) async fn the_cluster_describes_itself(bootstrap: &str) {
    let admin = admin(bootstrap);
    let name = unique("dirs");
    create(&admin, NewTopic::new(&name).with_partitions(2)).await;
    let cluster = admin.describe_cluster().await.unwrap();
    assert!(!cluster.cluster_id.is_empty() && !cluster.brokers.is_empty());
    assert!(
        cluster
            .brokers
            .iter()
            .any(|broker| Some(broker.id) == cluster.controller)
    );
    let brokers: Vec<_> = cluster
        .brokers
        .iter()
        .map(|broker| ConfigResource::Broker(broker.id))
        .collect();
    for settings in admin.describe_configs(&brokers).await.unwrap() {
        let settings = settings.unwrap();
        assert!(
            settings
                .iter()
                .any(|entry| entry.name == "log.retention.ms" || entry.name == "log.retention.hours")
        );
    }
    let dirs = admin.describe_log_dirs().await.unwrap();
    let replicas = dirs.iter().flat_map(|dir| &dir.replicas);
    let ours = replicas
        .filter(|replica| *replica.partition.topic == *name)
        .count();
    assert_eq!(ours, 2);
    admin.delete_topics(&[&name]).await.unwrap()[0].as_ref().unwrap();
}
