//! Signals that must not end the process although nothing, or nothing yet, acts on them.

use tokio::signal::unix::{SignalKind, signal};

/// SIGUSR1 and SIGUSR2, which log rotation sends to other servers, have no meaning here; SIGHUP has one as soon as the
/// process serves. The default action of all three is to end the process. tokio replaces it for good with the first
/// receiver, which need not be kept.
pub fn claim() {
    let claimed = tokio::runtime::Builder::new_current_thread().enable_all().build().and_then(|runtime| {
        let _entered = runtime.enter();
        [SignalKind::user_defined1(), SignalKind::user_defined2(), SignalKind::hangup()]
            .into_iter()
            .try_for_each(|kind| signal(kind).map(drop))
    });
    if let Err(e) = claimed {
        log::error!("SIGUSR1, SIGUSR2 and an early SIGHUP will end the process: {e}");
    }
}
