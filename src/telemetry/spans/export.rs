//! Exports finished requests in batches, from a thread of its own.
//!
//! ```text
//!           a batch is full, or EXPORT_INTERVAL old                accepted, refused, tries used up
//! Collecting ------------------------------------> Exporting -----------------------------------> Collecting
//!     ^                                            |       ^
//!     |                                 failed, 429|       | after the wait
//!     |                             502, 503 or 504'-> Waiting
//!     '-- the queue is closed and empty: the thread ends. When the process ends, each batch is tried once, until a time
//! ```
//!
//! A request only hands over its record. While a collector is slow or away the queue fills, and what has no room is dropped and
//! counted in `tidegate_spans_dropped_total`.

use super::otlp::{ExportResponse, Resource, RpcStatus};
use super::record::FinishedRequest;
use super::{Compression, Tracing, encode};
use crate::dialect::shared::refusal;
use crate::redact::redact_to;
use crate::sign::fresh::Reason;
use crate::sign::http::{Answer, send};
use crate::system;
use crate::telemetry::labels::SpanLoss;
use crate::telemetry::throttle::Throttle;
use crate::telemetry::trace::Sampling;
use bytes::Bytes;
use flate2::write::GzEncoder;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request};
use parking_lot::Mutex;
use prometheus::IntCounter;
use prost::Message;
use std::io::Write;
use std::pin::pin;
use std::sync::mpsc as blocking;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use uuid::{Builder, Uuid};

/// Most finished requests that wait for a batch.
pub const QUEUE: usize = 2048;
/// Spans that complete a batch.
pub const MAX_BATCH: usize = 512;
/// Longest time from a batch's first request to its export. This and the two above are OpenTelemetry's defaults for its
/// batching span processor.
pub const EXPORT_INTERVAL: Duration = Duration::from_secs(5);
/// Tries of a batch.
pub const MAX_TRIES: u32 = 5;
/// First and longest wait between them; it doubles.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(16));
/// Longest `retry-after` that is obeyed; a longer one is cut to it.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);
/// Longest message of a collector in the log, in bytes.
const MAX_MESSAGE: usize = 256;

/// Counts spans.
#[derive(Clone)]
pub struct SpanCounters {
    /// Those that the collector has accepted.
    pub exported: IntCounter,
    /// Others, by [`SpanLoss`].
    pub dropped: Vec<IntCounter>,
}

impl SpanCounters {
    fn drop(&self, reason: SpanLoss, spans: usize) {
        if let Some(counter) = self.dropped.get(reason as usize) {
            counter.inc_by(spans as u64);
        }
    }
}

/// Takes finished requests; its thread ends when the last one is dropped and the queue is empty.
pub struct Tracer {
    settings: Tracing,
    queue: mpsc::Sender<Box<FinishedRequest>>,
    counters: SpanCounters,
    stop: Arc<Stop>,
    /// Disconnected once the thread has ended.
    ended: Mutex<blocking::Receiver<()>>,
}

/// The end of the process, for the thread.
#[derive(Default)]
struct Stop {
    notify: Notify,
    /// When the last try ends.
    until: OnceLock<Instant>,
}

impl Tracer {
    /// The tracer of these settings: the previous one if it has the same, else a new one.
    ///
    /// # Errors
    /// When its thread cannot be created.
    pub fn of(settings: &Tracing, previous: Option<&Arc<Self>>, counters: SpanCounters) -> Result<Arc<Self>, String> {
        if let Some(same) = previous.filter(|previous| previous.settings == *settings) {
            return Ok(same.clone());
        }
        let (queue, received) = mpsc::channel(QUEUE);
        let (end, ended) = blocking::sync_channel(1);
        let stop = Arc::<Stop>::default();
        let collector = Collector(settings.clone());
        let resource = encode::resource(&settings.service_name, instance());
        let worker = Worker {
            collector,
            resource,
            queue: received,
            stop: stop.clone(),
            counters: counters.clone(),
            until: None,
            failing: false,
            partial: Throttle::new(),
        };
        let failed = |e: std::io::Error| format!("cannot start the export of traces: {e}");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let thread = std::thread::Builder::new().name("traces".to_owned());
        let run = move || {
            let _end: blocking::SyncSender<()> = end;
            #[expect(clippy::disallowed_methods, reason = "this thread does nothing else")]
            runtime.block_on(worker.run());
        };
        thread.spawn(run).map_err(failed)?;
        Ok(Arc::new(Self { settings: settings.clone(), queue, counters, stop, ended: Mutex::new(ended) }))
    }

    /// Which of the traces that begin here are sampled.
    pub fn sampling(&self) -> Sampling {
        self.settings.sampling
    }

    /// Hands over a finished request, or counts its spans as dropped. Never waits.
    pub fn record(&self, request: Box<FinishedRequest>) {
        let (reason, request) = match self.queue.try_send(request) {
            Ok(()) => return,
            Err(TrySendError::Full(request)) => (SpanLoss::QueueFull, request),
            Err(TrySendError::Closed(request)) => (SpanLoss::Shutdown, request),
        };
        self.counters.drop(reason, request.spans());
    }

    /// Exports what is queued and ends, waiting at most `bound`; later requests are dropped. Blocks: for the end of the process.
    pub fn flush(&self, bound: Duration) {
        let until = system::now() + bound;
        // Leaves time to count what is lost.
        self.stop(bound.mul_f64(0.9));
        // Another call may be waiting, with a bound of its own.
        let ended = self.ended.try_lock_until(until);
        let ended = ended.map(|ended| ended.recv_timeout(until.saturating_duration_since(system::now())));
        if matches!(ended, None | Some(Err(blocking::RecvTimeoutError::Timeout))) {
            log::warn!("the last traces are not exported: {} did not accept them within {bound:?}", self.settings.shown);
        }
    }

    /// The last batches are tried until `bound` has passed.
    fn stop(&self, bound: Duration) {
        self.stop.until.get_or_init(|| Instant::now() + bound);
        self.stop.notify.notify_one();
    }
}

/// `service.instance.id`: a random UUID for this process, as OpenTelemetry's resource conventions recommend.
fn instance() -> Uuid {
    static INSTANCE: OnceLock<Uuid> = OnceLock::new();
    *INSTANCE.get_or_init(|| {
        let mut random = [0; 16];
        system::fill_random(&mut random);
        Builder::from_random_bytes(random).into_uuid()
    })
}

/// Where batches are posted.
trait Transport {
    /// Posts a batch.
    ///
    /// # Errors
    /// Why there is no response.
    async fn post(&self, body: Bytes) -> Result<Answer, Reason>;

    /// How a batch is encoded.
    fn compression(&self) -> Compression;

    /// Its name in messages.
    fn shown(&self) -> &str;
}

/// An OTLP endpoint.
struct Collector(Tracing);

impl Transport for Collector {
    async fn post(&self, body: Bytes) -> Result<Answer, Reason> {
        let Tracing { uri, headers, compression, egress, .. } = &self.0;
        let mut request = Request::post(uri.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"))
            .header(USER_AGENT, HeaderValue::from_static(concat!("tidegate/", env!("CARGO_PKG_VERSION"))));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if *compression == Compression::Gzip {
            request = request.header(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        send(request.body(body).map_err(|e| e.to_string())?, egress).await
    }

    fn compression(&self) -> Compression {
        self.0.compression
    }

    fn shown(&self) -> &str {
        &self.0.shown
    }
}

/// A batch as it is posted, however often.
fn packed(batch: Vec<u8>, compression: Compression) -> std::io::Result<Bytes> {
    match compression {
        Compression::None => Ok(batch.into()),
        Compression::Gzip => gzip(&batch).map(Bytes::from),
    }
}

fn gzip(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), flate2::Compression::fast());
    encoder.write_all(body)?;
    encoder.finish()
}

/// What an export came to.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// The collector has the batch, but for so many spans, with its message about them.
    Accepted { rejected: u64, message: String },
    /// It does not want it.
    Refused(String),
    /// It may take it later, at the earliest after this time.
    Later(String, Option<Duration>),
}

impl Verdict {
    /// OTLP specification 1.9, "Failures" and "Retryable Response Codes" of OTLP/HTTP: 429, 502, 503 and 504 are retried, honouring
    /// `Retry-After`, as is a lost connection; all other 4xx and 5xx are not. "Partial Success": a 200 may have rejected spans,
    /// which are not sent again.
    fn of(result: Result<Answer, Reason>) -> Self {
        let answer = match result {
            Err(why) => return Self::Later(why.into_owned(), None),
            Ok(answer) => answer,
        };
        let status = answer.status;
        match status {
            200..=299 => {
                let partial = ExportResponse::decode(&*answer.body).ok().and_then(|response| response.partial_success).unwrap_or_default();
                Self::Accepted { rejected: u64::try_from(partial.rejected_spans).unwrap_or(0), message: partial.error_message }
            }
            429 | 502..=504 => Self::Later(format!("status {status}{}", said(&answer)), refusal::from_headers(&answer.headers)),
            _ => Self::Refused(format!("status {status}{}", said(&answer))),
        }
    }
}

/// What a refusal says, behind its status. OTLP specification 1.9, "Failures": "The response body for all HTTP 4xx and HTTP 5xx
/// responses MUST be a Protobuf-encoded Status message that describes the problem."
fn said(answer: &Answer) -> String {
    if !is_protobuf(&answer.headers) {
        return String::new();
    }
    match RpcStatus::decode(&*answer.body) {
        Ok(status) if !status.message.is_empty() => format!(": {}", redact_to(&status.message, MAX_MESSAGE)),
        _ => String::new(),
    }
}

fn is_protobuf(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/x-protobuf"))
}

/// The thread's state.
struct Worker<T> {
    collector: T,
    resource: Resource,
    queue: mpsc::Receiver<Box<FinishedRequest>>,
    stop: Arc<Stop>,
    counters: SpanCounters,
    /// Once the process ends: batches are exported at once, and tried once, until this time.
    until: Option<Instant>,
    /// Limits lines about spans that were rejected.
    partial: Throttle,
    /// Whether the last try failed, so that only the first one is logged.
    failing: bool,
}

impl<T: Transport> Worker<T> {
    async fn run(mut self) {
        let mut batch = Vec::new();
        loop {
            let open = self.collect(&mut batch).await;
            if !batch.is_empty() {
                self.export(&batch).await;
                batch.clear();
            }
            if !open {
                return;
            }
        }
    }

    /// Fills a batch. `false` once the queue is closed and empty.
    async fn collect(&mut self, batch: &mut Vec<FinishedRequest>) -> bool {
        let mut spans = 0;
        let mut due = None;
        while spans < MAX_BATCH {
            let until = due.unwrap_or_else(Instant::now);
            tokio::select! {
                biased;
                () = self.stop.notify.notified() => self.stop(),
                received = self.queue.recv() => {
                    let Some(request) = received else { return false };
                    due = due.or_else(|| Some(Instant::now() + EXPORT_INTERVAL));
                    spans += request.spans();
                    batch.push(*request);
                }
                () = sleep_until(until), if due.is_some() => break,
            }
        }
        true
    }

    /// The queue takes no more; what is in it still comes.
    fn stop(&mut self) {
        self.until = self.stop.until.get().copied();
        self.queue.close();
    }

    /// Posts a batch. `None`: the process ends before there is a response.
    async fn post(&mut self, body: Bytes) -> Option<Result<Answer, Reason>> {
        let mut post = pin!(self.collector.post(body));
        if self.until.is_none() {
            tokio::select! {
                answer = &mut post => return Some(answer),
                () = self.stop.notify.notified() => {}
            }
            self.until = self.stop.until.get().copied();
            self.queue.close();
        }
        timeout_at(self.until?, post).await.ok()
    }

    async fn export(&mut self, batch: &[FinishedRequest]) {
        let spans: usize = batch.iter().map(FinishedRequest::spans).sum();
        let body = match packed(encode::batch(&self.resource, batch), self.collector.compression()) {
            Ok(body) => body,
            Err(e) => {
                self.failed(&format!("a batch could not be compressed: {e}"));
                return self.counters.drop(SpanLoss::Rejected, spans);
            }
        };
        let mut backoff = BACKOFF.0;
        for tries in 1.. {
            let Some(answer) = self.post(body.clone()).await else { return self.counters.drop(SpanLoss::Shutdown, spans) };
            let (why, wait) = match Verdict::of(answer) {
                Verdict::Accepted { rejected, message } => return self.accepted(spans, rejected, &message),
                Verdict::Refused(why) => {
                    self.failed(&why);
                    return self.counters.drop(SpanLoss::Rejected, spans);
                }
                Verdict::Later(why, wait) => (why, wait),
            };
            self.failed(&why);
            if self.until.is_some() || tries >= MAX_TRIES {
                return self.counters.drop(SpanLoss::Unavailable, spans);
            }
            self.wait(wait.map_or_else(|| jittered(backoff, system::random()), |wait| wait.min(MAX_RETRY_AFTER))).await;
            backoff = (backoff * 2).min(BACKOFF.1);
        }
    }

    /// Waits, unless the process ends.
    async fn wait(&mut self, time: Duration) {
        tokio::select! {
            () = self.stop.notify.notified() => self.stop(),
            () = sleep(time) => {}
        }
    }

    fn accepted(&mut self, spans: usize, rejected: u64, message: &str) {
        let rejected = usize::try_from(rejected).unwrap_or(usize::MAX).min(spans);
        self.counters.exported.inc_by((spans - rejected) as u64);
        if rejected > 0 {
            self.counters.drop(SpanLoss::Rejected, rejected);
            if let Some(suppressed) = self.partial.admit(system::now()) {
                let (shown, message) = (self.collector.shown(), redact_to(message, MAX_MESSAGE));
                log::warn!("{shown} rejected {rejected} of {spans} spans: {message}{suppressed}");
            }
        } else if std::mem::take(&mut self.failing) {
            log::info!("traces are exported to {} again", self.collector.shown());
        }
    }

    fn failed(&mut self, why: &str) {
        if !std::mem::replace(&mut self.failing, true) {
            log::warn!("traces are not exported to {}: {why}; tidegate_spans_dropped_total counts what is lost", self.collector.shown());
        }
    }
}

/// Half of the wait to all of it, so that several gateways do not come at once.
fn jittered(wait: Duration, random: u64) -> Duration {
    wait / 2 + (wait / 2).mul_f64((random >> 11) as f64 / (1u64 << 53) as f64)
}

#[cfg(test)]
#[path = "export_tests.rs"]
mod tests;
