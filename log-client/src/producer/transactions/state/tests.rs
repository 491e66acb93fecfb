//! Which calls fit what the producer is doing, what an error does to the transaction, and what it is called then.

use log_core::model::{ProducerEpoch, ProducerId};
use log_core::protocol::ApiKey;

use super::*;

fn identity(epoch: i16) -> ProducerIdentity {
    ProducerIdentity {
        id: ProducerId::new(7),
        epoch: ProducerEpoch::new(epoch),
    }
}

fn answer(code: ErrorCode) -> Error {
    Error::broker(ApiKey::EndTxn, code, "t", None)
}

fn open(protocol: TransactionProtocol) -> Transactions {
    let transactions = Transactions::new();
    transactions.initialized(identity(0), protocol);
    transactions.begin().unwrap();
    transactions
}

fn class<T: std::fmt::Debug>(result: Result<T>) -> TransactionErrorClass {
    result.unwrap_err().transaction_class()
}

#[test]
fn calls_that_do_not_fit_are_refused_and_change_nothing() {
    let transactions = Transactions::new();
    assert!(transactions.begin().is_err() && transactions.opened().is_err());
    transactions.initialized(identity(0), TransactionProtocol::V2);
    assert!(transactions.opened().is_err() && transactions.close().is_err());
    assert!(transactions.give_up().is_err());
    transactions.begin().unwrap();
    assert!(transactions.begin().is_err());
    assert_eq!(transactions.opened().unwrap().identity, identity(0));
    assert!(transactions.close().unwrap());
    assert!(transactions.opened().is_err(), "no record slips in");
}

#[test]
fn an_end_that_was_not_answered_cannot_be_decided_otherwise() {
    let transactions = open(TransactionProtocol::V2);
    transactions.started();
    transactions.close().unwrap();
    assert!(transactions.ending(End::Commit).unwrap().is_started);
    let error = transactions.refused(answer(ErrorCode::RequestTimedOut));
    assert_eq!(error.transaction_class(), TransactionErrorClass::Retriable);
    assert!(transactions.give_up().is_err());
    assert!(
        !transactions.close().unwrap(),
        "only the coordinator is asked again"
    );
    transactions.ending(End::Commit).unwrap();
    transactions.renamed(identity(1));
    transactions.ended();
    transactions.begin().unwrap();
    assert_eq!(transactions.opened().unwrap().identity, identity(1));

    transactions.give_up().unwrap();
    assert!(transactions.close().is_err());
    transactions.give_up().unwrap();
}

#[test]
fn a_failed_record_dooms_its_transaction_and_no_other() {
    for (protocol, is_started, needs_epoch) in [
        (TransactionProtocol::V1, true, true),
        (TransactionProtocol::V1, false, true),
        // The end of the transaction gives a new epoch by itself, if there was a transaction.
        (TransactionProtocol::V2, true, false),
        (TransactionProtocol::V2, false, true),
    ] {
        let transactions = open(protocol);
        if is_started {
            transactions.started();
        }
        transactions.record_failed(&answer(ErrorCode::MessageTooLarge));
        assert_eq!(class(transactions.opened()), TransactionErrorClass::Abortable);
        assert_eq!(class(transactions.close()), TransactionErrorClass::Abortable);
        assert!(matches!(transactions.permission(), Permission::GiveUp(_)));
        transactions.give_up().unwrap();
        assert!(matches!(transactions.permission(), Permission::GiveUpUnsent));
        let ending = transactions.ending(End::Abort).unwrap();
        assert_eq!(
            (ending.is_started, ending.needs_epoch),
            (is_started, needs_epoch),
            "{protocol:?}"
        );
        transactions.ended();
        transactions.begin().unwrap();
        transactions.opened().unwrap();
    }
}

#[test]
fn what_is_given_up_unsent_leaves_no_gap() {
    let transactions = open(TransactionProtocol::V1);
    transactions.started();
    transactions.give_up().unwrap();
    transactions.record_failed(&Error::TransactionAborted);
    assert!(!transactions.ending(End::Abort).unwrap().needs_epoch);
}

#[test]
fn who_is_fenced_stays_so() {
    for (error, expected) in [
        (ErrorCode::ProducerFenced, TransactionErrorClass::Fenced),
        (ErrorCode::InvalidProducerEpoch, TransactionErrorClass::Fenced),
        (ErrorCode::InvalidTxnState, TransactionErrorClass::Fatal),
    ] {
        let transactions = open(TransactionProtocol::V2);
        transactions.give_up().unwrap();
        transactions.ending(End::Abort).unwrap();
        assert_eq!(transactions.refused(answer(error)).transaction_class(), expected);
        assert_eq!(class(transactions.begin()), expected);
        assert_eq!(class(transactions.give_up()), expected);
    }
    // A leader that minds the epoch does not decide that, be it a record's or an offset's.
    let transactions = open(TransactionProtocol::V2);
    transactions.record_failed(&answer(ErrorCode::InvalidProducerEpoch));
    assert_eq!(class(transactions.opened()), TransactionErrorClass::Abortable);
    let transactions = open(TransactionProtocol::V2);
    let error = transactions.refused(answer(ErrorCode::InvalidProducerEpoch));
    assert_eq!(error.transaction_class(), TransactionErrorClass::Abortable);
    assert_eq!(class(transactions.close()), TransactionErrorClass::Abortable);
}

#[test]
fn a_record_that_was_not_taken_dooms_its_transaction_and_leaves_no_gap() {
    let transactions = open(TransactionProtocol::V1);
    let error = transactions.record_refused(&Error::RecordTooLarge { size: 2, limit: 1 });
    assert_eq!(error.transaction_class(), TransactionErrorClass::Abortable);
    assert_eq!(class(transactions.close()), TransactionErrorClass::Abortable);
    transactions.give_up().unwrap();
    assert!(!transactions.ending(End::Abort).unwrap().needs_epoch);

    // Aborting would not help.
    let transactions = open(TransactionProtocol::V1);
    let error = transactions.record_refused(&Error::Closed("producer"));
    assert_eq!(error.transaction_class(), TransactionErrorClass::Fatal);
}

#[test]
fn what_is_given_up_while_it_is_being_committed_is_not_committed() {
    let transactions = open(TransactionProtocol::V2);
    transactions.started();
    transactions.close().unwrap();
    transactions.give_up().unwrap();
    assert!(transactions.ending(End::Commit).is_err());
    assert!(transactions.ending(End::Abort).unwrap().is_started);
}

#[test]
fn a_coordinator_may_demand_that_a_commit_becomes_an_abort() {
    // Or it may have aborted the transaction itself.
    for code in [ErrorCode::TransactionAbortable, ErrorCode::InvalidTxnState] {
        let transactions = open(TransactionProtocol::V2);
        transactions.started();
        transactions.close().unwrap();
        transactions.ending(End::Commit).unwrap();
        let error = transactions.refused(answer(code));
        assert_eq!(error.transaction_class(), TransactionErrorClass::Abortable);
        transactions.give_up().unwrap();
        assert!(transactions.ending(End::Abort).unwrap().is_started);
    }
}

#[test]
fn partitions_are_added_anew_in_each_transaction_of_the_first_protocol() {
    let transactions = open(TransactionProtocol::V1);
    let partition = TopicPartition::new("t", 0);
    assert!(!transactions.has(&partition));
    transactions.added(vec![partition.clone()]);
    assert!(transactions.has(&partition));
    transactions.give_up().unwrap();
    transactions.ending(End::Abort).unwrap();
    transactions.ended();
    assert!(!transactions.has(&partition));
    assert!(open(TransactionProtocol::V2).has(&partition));
}
