//! What stands around all routes: a request is timed, refused or answered, and its answer finished.
//!
//! It is one step, and written out as a service of tower's: at each step axum copies all that is behind it for every request, and a step that is
//! made of a function (`from_fn`) does so twice and puts two more futures on the heap.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::extract::Request;
use axum::http::header::CONTENT_LENGTH;
use axum::http::{Method, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::Route;
use axum::routing::future::RouteFuture;
use futures_util::future::Either;
use tower_layer::Layer;
use tower_service::Service;

use super::compression;
use super::sites::{self, Sites};
use super::timing::Timing;
use crate::http::memory::BodyMemory;
use crate::http::problem::{Code, Problem};
use crate::metrics::http_front::HttpMetrics;

/// What all requests pass.
pub(super) struct Surroundings {
    pub(super) front: Arc<HttpMetrics>,
    pub(super) sites: Sites,
    pub(super) memory: BodyMemory,
}

/// Puts them around each route.
#[derive(Clone)]
pub(super) struct Surround(Arc<Surroundings>);

impl Surround {
    pub(super) fn with(surroundings: Surroundings) -> Self {
        Self(Arc::new(surroundings))
    }
}

impl Layer<Route> for Surround {
    type Service = Surrounded;

    fn layer(&self, route: Route) -> Surrounded {
        Surrounded {
            around: Arc::clone(&self.0),
            route,
        }
    }
}

/// A route with what stands around it.
#[derive(Clone)]
pub(super) struct Surrounded {
    around: Arc<Surroundings>,
    route: Route,
}

impl Service<Request> for Surrounded {
    type Response = Response;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Answering {
        let asked = Asked::of(&request);
        let answer = match self.around.sites.refusal(&request) {
            Some(problem) => Either::Left(ready(Ok(problem.into_response()))),
            None => Either::Right(self.route.call(request)),
        };
        Answering {
            around: Arc::clone(&self.around),
            asked: Some(asked),
            answer,
        }
    }
}

/// What is kept of a request until its answer.
struct Asked {
    timing: Timing,
    accepts_compressed: bool,
    method: Method,
    uri: Uri,
}

impl Asked {
    fn of(request: &Request) -> Self {
        Self {
            timing: Timing::begin(request),
            accepts_compressed: compression::accepts_ours(request.headers()),
            method: request.method().clone(),
            uri: request.uri().clone(),
        }
    }
}

/// A request that is being answered.
pub(super) struct Answering {
    around: Arc<Surroundings>,
    /// Until it is answered.
    asked: Option<Asked>,
    answer: Either<Ready<Result<Response, Infallible>>, RouteFuture<Infallible>>,
}

impl Future for Answering {
    type Output = Result<Response, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let response = ready!(Pin::new(&mut self.answer).poll(context))?;
        let asked = self.asked.take().expect("nobody asks again who was answered");
        Poll::Ready(Ok(self.around.finish(asked, response)))
    }
}

impl Surroundings {
    fn finish(&self, asked: Asked, mut response: Response) -> Response {
        if response.status() == Code::MethodNotAllowed.status() {
            refuse_in_our_words(&mut response, &asked.method, asked.uri.path());
        }
        if asked.accepts_compressed {
            response = compression::pay(&self.memory, response);
        }
        sites::seal(response.headers_mut());
        asked.timing.end(&self.front, &response);
        response
    }
}

/// A method that a path does not have is refused by the router itself, without a body. What it says in the head stays: which methods there are.
fn refuse_in_our_words(refusal: &mut Response, method: &Method, path: &str) {
    let path = crate::http::parameters::shortened(path);
    let problem = Problem::new(Code::MethodNotAllowed, format!("{path} has no {method}"));
    let (parts, body) = problem.into_response().into_parts();
    refusal.headers_mut().remove(CONTENT_LENGTH);
    refusal.headers_mut().extend(parts.headers);
    *refusal.body_mut() = body;
}
