//! Work on large bodies, beside the workers: milliseconds of one worker would hold up all of its other connections.

use crate::error::ApiError;
use std::num::NonZero;
use std::panic::resume_unwind;
use std::sync::LazyLock;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// From this size on a body is parsed and translated on the runtime's pool for blocking work, in bytes. A MiB takes
/// one to three milliseconds.
const LARGE_BODY: usize = 1 << 20;

/// One large body at a time for each core; more would only take memory.
static CORES: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(std::thread::available_parallelism().map_or(1, NonZero::get)));

/// Does work on a body of `size` bytes: here where that is small, else on the pool.
///
/// # Errors
/// 500 where the pool is gone, which it is when the process ends.
pub async fn run<T: Send + 'static>(size: usize, work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    if size < LARGE_BODY {
        return Ok(work());
    }
    let core = CORES.acquire().await.map_err(|_| ApiError::internal())?;
    // Work whose client has left goes on and keeps its core: more than one for each would hold up all.
    let work = move || {
        let _core = core;
        work()
    };
    match spawn_blocking(work).await {
        Ok(done) => Ok(done),
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            Err(_) => Err(ApiError::internal()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[tokio::test]
    async fn only_large_bodies_leave_their_worker() {
        let worker = thread::current().id();
        let place = async |size| run(size, || thread::current().id()).await.unwrap();
        assert_eq!(place(LARGE_BODY - 1).await, worker);
        assert_ne!(place(LARGE_BODY).await, worker);
    }
}
