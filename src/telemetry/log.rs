//! One way to stdout, for the application's records and for the access log, that never makes a request wait.
//!
//! A line is written into a buffer of [`BUFFER`] bytes; a thread of its own empties it into stdout. Where stdout is too
//! slow the buffer fills, and lines are dropped and counted (`tidegate_log_lines_dropped_total`).

use super::access::{AccessLine, Line, key};
use super::redact::redact;
use crate::config::snapshot::Log;
use log::{LevelFilter, Metadata, Record, SetLoggerError};
use parking_lot::{Condvar, Mutex};
use std::cell::RefCell;
use std::fmt::Write as _;
use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

/// Most bytes that wait for stdout; another as many may be on their way into it.
pub const BUFFER: usize = 1 << 20;
/// Longest message of a record in bytes; the rest is cut off.
pub const MESSAGE: usize = 8 << 10;
/// So many bytes are written at once without waiting for more.
const FLUSH_AT: usize = 64 << 10;
/// The longest that a line waits for others.
const FLUSH_EVERY: Duration = Duration::from_millis(50);
/// The longest that [`flush`] waits for a write in progress.
const FLUSH_WAIT: Duration = Duration::from_secs(1);

static SINK: OnceLock<Sink> = OnceLock::new();

/// Sends all records and access lines to stdout, from now on.
///
/// # Errors
/// Where a logger is there already.
pub fn install(config: &Log) -> Result<(), SetLoggerError> {
    let sink = SINK.get_or_init(|| Sink::new(Box::new(std::io::stdout())));
    log::set_logger(sink)?;
    configure(config);
    // without the thread lines would wait for `flush`; a system that has no thread left says so at once elsewhere
    let _ = std::thread::Builder::new().name("log".to_owned()).spawn(|| sink.run());
    Ok(())
}

/// Takes over the format and level of a new configuration.
pub fn configure(config: &Log) {
    if let Some(sink) = SINK.get() {
        sink.configure(config);
        log::set_max_level(config.level);
    }
}

/// Writes the line of a request that is over, where the configuration wants one.
pub fn write_access(line: &AccessLine<'_>) {
    if let Some(sink) = SINK.get() {
        sink.access(line);
    }
}

/// Empties the buffer; for the end of the process. Gives up after a second where stdout takes nothing.
pub fn flush() {
    if let Some(sink) = SINK.get() {
        sink.drain();
    }
}

/// Lines that were dropped so far.
pub fn dropped() -> u64 {
    SINK.get().map_or(0, |sink| sink.dropped.load(Relaxed))
}

struct Sink {
    buffer: Mutex<Vec<u8>>,
    filled: Condvar,
    output: Mutex<Output>,
    dropped: AtomicU64,
    json: AtomicBool,
    access: AtomicBool,
}

struct Output {
    /// Swapped with the buffer, so that neither is ever allocated again.
    spare: Vec<u8>,
    stream: Box<dyn Write + Send>,
}

thread_local! {
    /// A line is composed here, so that the buffer is locked for a copy only.
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Sink {
    fn new(stream: Box<dyn Write + Send>) -> Self {
        Self {
            buffer: Mutex::new(Vec::with_capacity(BUFFER)),
            filled: Condvar::new(),
            output: Mutex::new(Output { spare: Vec::with_capacity(BUFFER), stream }),
            dropped: AtomicU64::new(0),
            json: AtomicBool::new(true),
            access: AtomicBool::new(true),
        }
    }

    fn configure(&self, config: &Log) {
        self.json.store(config.json, Relaxed);
        self.access.store(config.access, Relaxed);
    }

    fn access(&self, line: &AccessLine<'_>) {
        if self.access.load(Relaxed) {
            self.compose(|out, json| line.write(out, json));
        }
    }

    fn compose(&self, write: impl FnOnce(&mut Vec<u8>, bool)) {
        // a line that is begun while another is composed on this thread would need a second buffer; it is counted as lost
        let done = LINE.try_with(|line| {
            let mut line = line.try_borrow_mut().ok()?;
            line.clear();
            write(&mut line, self.json.load(Relaxed));
            self.push(&line)
        });
        if !matches!(done, Ok(Some(()))) {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    fn push(&self, line: &[u8]) -> Option<()> {
        let mut buffer = self.buffer.lock();
        let before = buffer.len();
        let after = before.checked_add(line.len()).filter(|after| *after <= BUFFER)?;
        buffer.extend_from_slice(line);
        drop(buffer);
        if before == 0 || before < FLUSH_AT && after >= FLUSH_AT {
            self.filled.notify_one();
        }
        Some(())
    }

    /// The thread that empties the buffer.
    fn run(&self) {
        loop {
            let mut buffer = self.buffer.lock();
            while buffer.is_empty() {
                self.filled.wait(&mut buffer);
            }
            if buffer.len() < FLUSH_AT {
                self.filled.wait_for(&mut buffer, FLUSH_EVERY);
            }
            drop(buffer);
            self.drain();
        }
    }

    fn drain(&self) {
        let Some(mut output) = self.output.try_lock_for(FLUSH_WAIT) else { return };
        let Output { spare, stream } = &mut *output;
        std::mem::swap(&mut *self.buffer.lock(), spare);
        // nobody is left to tell where stdout is closed
        let _ = stream.write_all(spare);
        let _ = stream.flush();
        spare.clear();
    }
}

impl log::Log for Sink {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // What the gateway is built on says at `info` what is said here in its own words (and of a drain, wrongly), and
        // below that it prints whole headers, with the keys in them.
        let own = metadata.target().starts_with(env!("CARGO_PKG_NAME"));
        metadata.level() <= log::max_level() && (own || metadata.level() <= LevelFilter::Warn)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let mut message = Bounded(String::new());
        let _ = write!(message, "{}", record.args()); // an error here is the bound
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.compose(|out, json| {
            let mut line = Line::begin(out, json, u64::try_from(since.as_nanos()).unwrap_or_default());
            line.text(key!("level"), level(record.level()));
            line.text(key!("target"), record.target());
            line.text(key!("message"), &redact(&message.0));
            line.end();
        });
    }

    fn flush(&self) {
        self.drain();
    }
}

/// A message that stops growing at [`MESSAGE`] bytes.
struct Bounded(String);

impl std::fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let room = MESSAGE.saturating_sub(self.0.len());
        let end = (0..=room.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        self.0.push_str(text.get(..end).unwrap_or_default());
        if end < text.len() { Err(std::fmt::Error) } else { Ok(()) }
    }
}

const fn level(level: log::Level) -> &'static str {
    match level {
        log::Level::Error => "error",
        log::Level::Warn => "warn",
        log::Level::Info => "info",
        log::Level::Debug => "debug",
        log::Level::Trace => "trace",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]
mod tests {
    use super::*;
    use log::Log as _;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn text(kept: &Kept) -> String {
        String::from_utf8(kept.0.lock().clone()).unwrap()
    }

    #[test]
    fn a_record_is_one_redacted_line() {
        let kept = Kept::default();
        let sink = Sink::new(Box::new(kept.clone()));
        log::set_max_level(LevelFilter::Info);
        let record = |level, text: &str| {
            sink.log(&Record::builder().level(level).target("edge").args(format_args!("{text}")).build());
        };
        record(log::Level::Warn, "provider said \"sk-ab****cd\"\nforged");
        record(log::Level::Debug, "not wanted");
        log::set_max_level(LevelFilter::Trace);
        record(log::Level::Debug, "a header of somebody else's making");
        log::set_max_level(LevelFilter::Info);
        sink.drain();
        let line = text(&kept);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((value["level"].as_str(), value["target"].as_str()), (Some("warn"), Some("edge")));
        assert_eq!(value["message"], "provider said \"[redacted]\"\nforged");
        assert_eq!(line.lines().count(), 1);
    }

    #[test]
    fn a_full_buffer_drops_whole_lines_and_counts_them() {
        let kept = Kept::default();
        let sink = Sink::new(Box::new(kept.clone()));
        let line = [b"0123456789abcde".repeat(1000), b"\n".to_vec()].concat();
        let fit = BUFFER / line.len();
        for _ in 0..fit + 3 {
            sink.compose(|out, _| out.extend_from_slice(&line));
        }
        assert_eq!(sink.dropped.load(Relaxed), 3);
        sink.drain();
        assert_eq!(text(&kept).lines().filter(|l| l.len() + 1 == line.len()).count(), fit);
        sink.compose(|out, _| out.extend_from_slice(b"again\n"));
        sink.drain();
        assert!(text(&kept).ends_with("again\n"), "it goes on");
    }

    #[test]
    fn a_message_without_end_is_cut() {
        let mut message = Bounded(String::new());
        assert!(write!(message, "{}", "é".repeat(MESSAGE)).is_err());
        assert_eq!(message.0.len(), MESSAGE);
    }
}
