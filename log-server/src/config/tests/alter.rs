//! Changes to overrides, compared with what Kafka makes of them.
//! The overrides before, the changes, the overrides after or the refusal.

use crate::config::alter::{AlterError, Alteration, Change, Operation};
use crate::config::effective::{BrokerLayers, ConfigError, Overrides};
use crate::config::keys::BrokerConfig;

fn check(
    current: &[(&str, &str)],
    changes: &[(&str, Operation, Option<&str>)],
    expected: Result<&[(&str, &str)], &str>,
) {
    let pairs = |pairs: &[(&str, &str)]| -> Overrides {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    };
    let (config, none) = (BrokerConfig::default(), Overrides::new());
    let layers = BrokerLayers {
        config: &config,
        cluster: &none,
        node: &none,
    };
    let changes = changes
        .iter()
        .map(|(name, operation, value)| Change {
            name: (*name).to_owned(),
            operation: *operation,
            value: value.map(str::to_owned),
        })
        .collect();
    let result = layers.alter_topic(&pairs(current), &Alteration::Incremental(changes));
    match (result, expected) {
        (Ok(altered), Ok(expected)) => assert_eq!(altered, pairs(expected)),
        (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{error}"),
        (result, expected) => panic!("{result:?}, expected {expected:?}"),
    }
}

#[test]
fn the_four_operations_do_what_kafka_s_do() {
    use Operation::{Append, Delete, Set, Subtract};
    let policy = "cleanup.policy";
    check(
        &[],
        &[("retention.ms", Set, Some(" 7 "))],
        Ok(&[("retention.ms", "7")]),
    );
    check(
        &[("retention.ms", "7")],
        &[("retention.ms", Delete, None)],
        Ok(&[]),
    );
    check(&[], &[("retention.ms", Delete, None)], Ok(&[]));
    check(&[], &[("no.such", Delete, Some("x"))], Ok(&[]));
    // Lists begin with what counts without an override.
    check(
        &[],
        &[(policy, Append, Some("compact"))],
        Ok(&[(policy, "delete,compact")]),
    );
    check(
        &[(policy, "delete,compact")],
        &[(policy, Append, Some("compact"))],
        Ok(&[(policy, "delete,compact")]),
    );
    check(
        &[(policy, "delete,compact")],
        &[(policy, Subtract, Some("delete"))],
        Ok(&[(policy, "compact")]),
    );
    check(
        &[(policy, "compact")],
        &[(policy, Subtract, Some("compact"))],
        Ok(&[(policy, "")]),
    );
    check(
        &[(policy, "")],
        &[(policy, Append, Some(" compact"))],
        Ok(&[(policy, "compact")]),
    );
    check(&[], &[(policy, Append, Some(""))], Err("empty"));
    check(&[], &[(policy, Append, Some("squeeze"))], Err("\"squeeze\""));
    let long = vec!["compact"; 5000].join(",");
    check(&[], &[(policy, Append, Some(&long))], Err("it has 39999 bytes"));
    check(
        &[],
        &[("retention.ms", Append, Some("1"))],
        Err("cannot append to retention.ms"),
    );
    check(
        &[],
        &[("retention.ms", Subtract, Some("1"))],
        Err("cannot subtract from retention.ms"),
    );
    check(
        &[],
        &[("retention.ms", Set, None)],
        Err("retention.ms needs a value"),
    );
    check(
        &[],
        &[("retention.ms", Set, Some("1")), ("retention.ms", Delete, None)],
        Err("more than once"),
    );
    check(
        &[],
        &[("no.such", Append, Some("x"))],
        Err("there is no topic config no.such"),
    );
    check(
        &[("max.compaction.lag.ms", "50")],
        &[("min.compaction.lag.ms", Set, Some("100"))],
        Err("must not be more than"),
    );
}

#[test]
fn a_list_cannot_grow_beyond_the_longest_value() {
    let name = "follower.replication.throttled.replicas";
    let first = format!("0:{}", "1".repeat(32_700));
    let second = format!("1:{}", "1".repeat(32_700));
    check(
        &[(name, &first)],
        &[(name, Operation::Append, Some(&second))],
        Err("32767"),
    );
}

#[test]
fn replacing_forgets_what_is_not_named() {
    let (config, none) = (BrokerConfig::default(), Overrides::new());
    let layers = BrokerLayers {
        config: &config,
        cluster: &none,
        node: &none,
    };
    let current = Overrides::from([("retention.ms".to_owned(), "7".to_owned())]);
    let replace = |entries: &[(&str, Option<&str>)]| {
        let entries = entries
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned)))
            .collect();
        layers.alter_topic(&current, &Alteration::Replace(entries))
    };
    let altered = replace(&[("segment.ms", Some("9"))]).unwrap();
    assert_eq!(
        altered,
        Overrides::from([("segment.ms".to_owned(), "9".to_owned())])
    );
    assert_eq!(replace(&[]).unwrap(), Overrides::new());
    assert!(matches!(
        replace(&[("segment.ms", None)]),
        Err(AlterError::Null { .. })
    ));
}

#[test]
fn broker_keys_change_while_it_runs_if_they_may() {
    let (config, none) = (BrokerConfig::default(), Overrides::new());
    let layers = BrokerLayers {
        config: &config,
        cluster: &none,
        node: &none,
    };
    let set = |name: &str, value: &str| {
        let change = Change {
            name: name.to_owned(),
            operation: Operation::Set,
            value: Some(value.to_owned()),
        };
        layers.alter_broker(&none, &Alteration::Incremental(vec![change]))
    };
    assert_eq!(set("log.retention.ms", "5").unwrap()["log.retention.ms"], "5");
    let error = set("num.partitions", "2").unwrap_err();
    assert!(error.to_string().contains("STRATALOG_NUM_PARTITIONS"), "{error}");
    assert!(matches!(
        set("log.retention.hours", "2"),
        Err(AlterError::ReadOnly { .. })
    ));
    assert!(matches!(
        set("log.retention.sm", "2"),
        Err(AlterError::Config(ConfigError::Unknown { .. }))
    ));
    assert!(matches!(
        set("log.segment.bytes", "1"),
        Err(AlterError::Config(ConfigError::Value { .. }))
    ));
}
