//! `DeleteTopics`, versions 1 to 6.
//!
//! - Version 6 (KIP-516): by name or by id, with the id in the answer.
//! - Version 3 and later know `TOPIC_DELETION_DISABLED`; before, it is `INVALID_REQUEST`.
//! - A topic named twice is refused once.
//! - Nobody finds the topic, and its directories are renamed on the disk, when the answer leaves; the space comes back in the background.

use std::collections::BTreeMap;

use log_core::model::TopicId;
use log_core::protocol::messages::delete_topics_response::DeletableTopicResult;
use log_core::protocol::messages::{DeleteTopicsRequestData, DeleteTopicsResponseData};
use log_core::protocol::{ErrorCode, KafkaString, KafkaUuid};

use crate::kafka::error_map::controller_error;
use crate::kafka::request_context::RequestContext;
use crate::kafka::services::{Services, kafka_string, message};
use crate::metadata::image::TopicImage;
use crate::metadata::plan::TopicSelector;

/// Carries out one request.
pub(crate) async fn handle(
    services: &Services,
    context: &RequestContext,
    request: DeleteTopicsRequestData,
) -> DeleteTopicsResponseData {
    let mut responses = Vec::new();
    let mut counts: BTreeMap<TopicSelector, usize> = BTreeMap::new();
    let mut selectors = Vec::new();
    for selector in selectors_of(request, &mut responses) {
        let count = counts.entry(selector.clone()).or_default();
        *count += 1;
        if *count == 1 {
            selectors.push(selector);
        }
    }
    let (once, repeated): (Vec<_>, Vec<_>) = selectors
        .into_iter()
        .partition(|selector| counts.get(selector) == Some(&1));
    for selector in repeated {
        responses.push(refusal(
            &selector,
            ErrorCode::InvalidRequest,
            &"the request names it twice",
        ));
    }
    let results = services.controller.delete_topics(once.clone()).await;
    if results.iter().any(Result::is_ok) {
        services.groups.topics_deleted().await;
    }
    for (selector, result) in once.iter().zip(results) {
        responses.push(match result {
            Ok(topic) => deleted(&topic),
            Err(error) => {
                let code = match controller_error(&error) {
                    ErrorCode::TopicDeletionDisabled if context.version() < 3 => ErrorCode::InvalidRequest,
                    code => code,
                };
                refusal(selector, code, &error)
            }
        });
    }
    DeleteTopicsResponseData {
        responses,
        ..DeleteTopicsResponseData::default()
    }
}

/// What the request names; what it names badly is refused on the spot.
fn selectors_of(
    request: DeleteTopicsRequestData,
    refused: &mut Vec<DeletableTopicResult>,
) -> Vec<TopicSelector> {
    let by_name = |name: &KafkaString| TopicSelector::Name(name.as_str().to_owned());
    let mut selectors: Vec<TopicSelector> = request.topic_names.iter().map(by_name).collect();
    for topic in request.topics {
        let id = TopicId::from(topic.topic_id);
        let problem = match (&topic.name, id) {
            (Some(name), TopicId::ZERO) => {
                selectors.push(by_name(name));
                continue;
            }
            (None, id) if id != TopicId::ZERO => {
                selectors.push(TopicSelector::Id(id));
                continue;
            }
            (None, _) => "neither a name nor an id is given",
            (Some(_), _) => "a name and an id are given; give one of them",
        };
        refused.push(DeletableTopicResult {
            name: topic.name,
            topic_id: topic.topic_id,
            error_code: ErrorCode::InvalidRequest.code(),
            error_message: Some(message(&problem)),
            ..DeletableTopicResult::default()
        });
    }
    selectors
}

fn deleted(topic: &TopicImage) -> DeletableTopicResult {
    DeletableTopicResult {
        name: Some(kafka_string(&topic.name)),
        topic_id: KafkaUuid::from(topic.id),
        ..DeletableTopicResult::default()
    }
}

fn refusal(selector: &TopicSelector, code: ErrorCode, text: &impl ToString) -> DeletableTopicResult {
    let (name, id) = match selector {
        TopicSelector::Name(name) => (Some(kafka_string(name)), TopicId::ZERO),
        TopicSelector::Id(id) => (None, *id),
    };
    DeletableTopicResult {
        name,
        topic_id: KafkaUuid::from(id),
        error_code: code.code(),
        error_message: Some(message(text)),
        ..DeletableTopicResult::default()
    }
}
