//! The body of an answer as a list of steps with time between them, and the guard that notices a client which leaves.

use super::seen::{Ending, Ring};
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Sleep, sleep};

/// Pause before a break, so that what was written before it has left the process.
const BEFORE_BREAK: Duration = Duration::from_millis(2);

/// One step of a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// These bytes.
    Send(Bytes),
    /// Nothing for a while.
    Wait(Duration),
    /// Nothing ever again.
    Silence,
    /// The connection breaks.
    Break,
}

/// Watches one exchange: dropped before it was settled means that the client left.
pub(super) struct Watch {
    ring: Arc<Ring>,
    number: u64,
}

impl Watch {
    pub(super) fn new(ring: Arc<Ring>, number: u64) -> Self {
        Self { ring, number }
    }

    /// Notes an ending; later ones do not count.
    pub(super) fn settle(&self, ending: Ending) {
        self.ring.ended(self.number, ending);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.settle(Ending::ClientLeft);
    }
}

/// A body that plays its steps.
pub(super) struct Paced {
    steps: VecDeque<Step>,
    pause: Option<Pin<Box<Sleep>>>,
    watch: Watch,
}

impl Paced {
    pub(super) fn new(steps: Vec<Step>, watch: Watch) -> Self {
        if steps.is_empty() {
            watch.settle(Ending::Answered);
        }
        let mut all = VecDeque::with_capacity(steps.len() + 1);
        for step in steps {
            if step == Step::Break {
                all.push_back(Step::Wait(BEFORE_BREAK));
            }
            all.push_back(step);
        }
        Self { steps: all, pause: None, watch }
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        loop {
            if let Some(pause) = &mut this.pause {
                match pause.as_mut().poll(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(()) => this.pause = None,
                }
            }
            match this.steps.pop_front() {
                None => return Poll::Ready(None),
                Some(Step::Wait(time)) => this.pause = Some(Box::pin(sleep(time))),
                Some(Step::Silence) => {
                    this.steps.push_front(Step::Silence); // whoever waits is woken by the client's leaving alone
                    return Poll::Pending;
                }
                Some(Step::Break) => {
                    this.watch.settle(Ending::Broken);
                    return Poll::Ready(Some(Err(io::Error::other("the script broke this answer off"))));
                }
                Some(Step::Send(bytes)) => {
                    if this.steps.is_empty() {
                        this.watch.settle(Ending::Answered);
                    }
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.steps.is_empty() && self.pause.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default() // a content-length is set where the whole length is known
    }
}
