//! State of a request shared by the hooks and the replay session, which Pingora borrows separately.

use crate::front::responses::response::Response;
use crate::json::slices::Slices;
use crate::lifecycle::Lifecycle;
use parking_lot::Mutex;
use pingora_core::protocols::http::ServerSession;
use pingora_http::ResponseHeader;

/// Locked per event, always by the same task, so never contended.
pub type Shared = Mutex<Parts>;

/// See [`Shared`].
#[derive(Default)]
pub struct Parts {
    /// State of the request.
    pub life: Lifecycle,
    /// The attempt's request body, until Pingora takes it.
    pub body: Slices,
    /// Writes the heartbeats of a response's stream; `None` where a heartbeat is a comment.
    pub response: Option<Response>,
    /// The client's response head, from the commit until it is written.
    pub head: Option<Box<ResponseHeader>>,
    /// The client's session, once the replay session is dropped.
    pub client_session: Option<Box<ServerSession>>,
}
