//! Work that is done to its end even if nobody waits for it any more.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::runtime::Handle;

type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A future that continues in a task of its own if it is dropped before its end; `unclaimed` gets its result then. The work must
/// have a deadline of its own.
pub struct ToEnd<T: 'static, F: FnOnce(T) + Send + 'static>(Option<(Work<T>, F)>);

impl<T: 'static, F: FnOnce(T) + Send + 'static> ToEnd<T, F> {
    /// Does `work`.
    pub fn new(work: impl Future<Output = T> + Send + 'static, unclaimed: F) -> Self {
        Self(Some((Box::pin(work), unclaimed)))
    }
}

impl<T: 'static, F: FnOnce(T) + Send + Unpin + 'static> Future for ToEnd<T, F> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let Some((mut work, unclaimed)) = self.0.take() else { return Poll::Pending };
        let result = work.as_mut().poll(cx);
        if result.is_pending() {
            self.0 = Some((work, unclaimed));
        }
        result
    }
}

impl<T: 'static, F: FnOnce(T) + Send + 'static> Drop for ToEnd<T, F> {
    fn drop(&mut self) {
        if let Some((work, unclaimed)) = self.0.take()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(async move { unclaimed(work.await) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use tokio::sync::mpsc;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn an_abandoned_work_ends_and_its_result_is_handed_over_once() {
        let (unclaimed, mut results) = mpsc::unbounded_channel();
        let (done, waits) = oneshot::channel();
        let sender = unclaimed.clone();
        let mut work = ToEnd::new(async move { waits.await.unwrap() }, move |result: u8| sender.send(result).unwrap());
        assert!((&mut work).now_or_never().is_none());
        drop(work);
        done.send(7).unwrap();
        assert_eq!(results.recv().await, Some(7));
        let claimed = ToEnd::new(async { 8 }, move |result| unclaimed.send(result).unwrap());
        assert_eq!((claimed.await, results.recv().await), (8, None));
    }
}
