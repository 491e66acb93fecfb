//! `GET /v1/topics/{topic}/socket`: a WebSocket that follows a topic and writes to it, for browsers that want both.
//!
//! The route's handler finds out what is wanted and answers 101. The conversation itself is left in the connection's [`Handover`], and the
//! task that served the requests goes on with it: so it has the connection's place among all of them, its patience with clients that take
//! nothing, and its end, which hyper's own upgrades would take it out of.
//!
//! | module | owns |
//! |---|---|
//! | `handshake` | from a request to a socket |
//! | `outbox` | what is to be sent, cut into frames |
//! | `paid_stream` | a stream that pays for what is read of it |
//! | `pulse` | pings: whether the client lives, and keeps up |
//! | `session` | the conversation |

use std::sync::Arc;

use axum::extract::{Request, State};
use parking_lot::Mutex;

use crate::http::follow::{self, FollowParameters};
use crate::http::parameters::{Parameters, Place};
use crate::http::problem::Answer;
use crate::http::produce;
use crate::http::services::Services;

mod handshake;
mod outbox;
mod paid_stream;
mod pulse;
mod session;

use session::Session;

/// Where a handler leaves the conversation with which the connection goes on. Requests that may become one have it as an extension.
#[derive(Clone, Default)]
pub(crate) struct Handover(Arc<Mutex<Option<Box<Session>>>>);

impl Handover {
    /// The conversation, if there is one.
    pub(super) fn take(&self) -> Option<Box<Session>> {
        self.0.lock().take()
    }
}

/// Opens a socket.
pub(crate) async fn open(
    State(services): State<Arc<Services>>,
    Place(topic): Place<String>,
    Parameters(asked): Parameters<FollowParameters>,
    request: Request,
) -> Answer {
    let accepted = match handshake::accept(&request) {
        Ok(accepted) => accepted,
        Err(reason) => return Ok(handshake::refusal(&reason)),
    };
    let (mut head, _) = request.into_parts();
    let Some(handover) = head.extensions.remove::<Handover>() else {
        return Ok(handshake::refusal("this connection cannot become one"));
    };
    let topic = services.topic(&topic)?;
    let heartbeat = asked.heartbeat()?;
    let following = follow::messages(&services, &topic, &asked, &head.headers).await?;
    let written = produce::Messages::new(&services, &topic);
    let session = Session::new(&services, heartbeat, following, written);
    *handover.0.lock() = Some(Box::new(session));
    Ok(accepted)
}
