//! `GET /openapi.json`: the API as tools read it. The document is a file beside this one; a test holds it to the routes, and another to the
//! codes of problems.

use std::sync::LazyLock;

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::entity_tag::EntityTag;

const DOCUMENT: &str = include_str!("openapi.json");

static TAG: LazyLock<EntityTag> = LazyLock::new(|| EntityTag::of([DOCUMENT.as_bytes()]));

/// The document, unless the client has it.
pub(crate) async fn document(asked: HeaderMap) -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (ETAG, TAG.value()),
        // "Ask whether it is still so": another program may stand at this address tomorrow.
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    if TAG.is_known(&asked) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, DOCUMENT).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::http::problem::CODES;
    use crate::http::routes::{api_routes, health_routes, metrics_routes};

    fn document() -> Value {
        serde_json::from_str(DOCUMENT).unwrap()
    }

    #[test]
    fn the_document_has_the_routes() {
        let document = document();
        let described: BTreeSet<(String, String)> = document["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, methods)| {
                let methods = methods.as_object().unwrap().keys();
                methods.map(move |method| (method.to_uppercase(), path.clone()))
            })
            .collect();
        let api = api_routes().into_iter().map(|route| (route.method, route.path));
        let health = health_routes()
            .into_iter()
            .map(|route| (route.method, route.path));
        let metrics = metrics_routes()
            .into_iter()
            .map(|route| (route.method, route.path));
        let served: BTreeSet<_> = api
            .chain(health)
            .chain(metrics)
            .map(|(method, path)| (method.to_owned(), path.to_owned()))
            .collect();
        assert_eq!(described, served);
    }

    #[test]
    fn names_in_a_path_are_parameters_of_it() {
        for (path, methods) in document()["paths"].as_object().unwrap() {
            let named: BTreeSet<&str> = path
                .split('{')
                .skip(1)
                .map(|rest| rest.split('}').next().unwrap())
                .collect();
            for (method, operation) in methods.as_object().unwrap() {
                let parameters = operation["parameters"].as_array().into_iter().flatten();
                let in_path: BTreeSet<&str> = parameters
                    .filter(|parameter| parameter["in"] == "path")
                    .map(|parameter| parameter["name"].as_str().unwrap())
                    .collect();
                assert_eq!(named, in_path, "{method} {path}");
            }
        }
    }

    #[test]
    fn the_document_has_the_codes_of_problems() {
        let codes = document()["components"]["schemas"]["Problem"]["properties"]["code"]["enum"].clone();
        let described: Vec<&str> = codes
            .as_array()
            .unwrap()
            .iter()
            .map(|code| code.as_str().unwrap())
            .collect();
        let known: Vec<&str> = CODES.iter().map(|code| code.name()).collect();
        assert_eq!(described, known);
    }

    #[test]
    fn references_lead_somewhere() {
        fn visit(root: &Value, value: &Value) {
            match value {
                Value::Object(fields) => {
                    if let Some(target) = fields.get("$ref") {
                        let pointer = target.as_str().unwrap().strip_prefix('#').unwrap();
                        assert!(root.pointer(pointer).is_some(), "{target}");
                    }
                    fields.values().for_each(|value| visit(root, value));
                }
                Value::Array(values) => values.iter().for_each(|value| visit(root, value)),
                _ => {}
            }
        }
        let document = document();
        visit(&document, &document);
    }
}
