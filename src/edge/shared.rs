//! What the hooks and the replay session share of one request, across Pingora's borrow of both.

use crate::lifecycle::Lifecycle;
use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use pingora_core::protocols::http::ServerSession;
use pingora_http::ResponseHeader;

/// Locked for one event at a time, always by the same task: nobody waits for it.
#[derive(Default)]
pub struct Shared(Mutex<Parts>);

/// See [`Shared`].
#[derive(Default)]
pub struct Parts {
    /// Where the request is.
    pub life: Lifecycle,
    /// The attempt's request body, until it is handed out.
    pub body: Option<Bytes>,
    /// The head of the client's response, from the commit until it is written.
    pub head: Option<Box<ResponseHeader>>,
    /// The client's own session, once the replay session has been dropped.
    pub home: Option<Box<ServerSession>>,
}

impl Shared {
    /// The parts.
    pub fn lock(&self) -> MutexGuard<'_, Parts> {
        self.0.lock()
    }
}
