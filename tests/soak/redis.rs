//! A redis-server that is restarted while limits are counted in it.

use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

#[allow(dead_code, reason = "shared with the tests of limits, which use more of it")]
#[path = "../shared/redis.rs"]
mod server;

pub use server::Redis;

/// Restarts in one run.
const RESTARTS: u32 = 4;
/// How long it is away each time.
const AWAY: Duration = Duration::from_millis(700);

/// Starts it, empty, unless it runs.
pub async fn start(redis: &Arc<Mutex<Redis>>) {
    let redis = redis.clone();
    tokio::task::spawn_blocking(move || redis.blocking_lock().again()).await.unwrap();
}

/// Restarts it over `whole`.
pub async fn restarts(redis: Arc<Mutex<Redis>>, whole: Duration) {
    loop {
        tokio::time::sleep(whole / (RESTARTS + 1)).await;
        redis.lock().await.stop();
        tokio::time::sleep(AWAY).await;
        start(&redis).await;
    }
}
