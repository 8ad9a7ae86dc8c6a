//! Writes the application log and the access log to stdout without blocking requests.
//!
//! Lines are appended to a buffer of [`BUFFER`] bytes, which a thread writes to stdout. A line that cannot be written
//! is dropped as a whole and counted in `tidegate_log_lines_dropped_total`:
//!
//! | stdout | partly written line | following lines |
//! | --- | --- | --- |
//! | slow, or would block | completed later | buffered; dropped if the buffer is full |
//! | full, or fails | completed later | dropped |
//! | closed | dropped; the next one starts on a new line | dropped |

use super::access::{AccessLine, Line, key};
use super::short;
use crate::redact::{MAX_SEARCHED, redact_to, truncated};
use crate::system;
use crate::yaml::section::words;
use log::{LevelFilter, Metadata, Record, SetLoggerError};
use parking_lot::{Condvar, Mutex};
use std::cell::RefCell;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Maximum buffered bytes; the same amount may be in the process of being written.
pub const BUFFER: usize = 1 << 20;
/// Maximum length of a message in bytes; longer ones are truncated.
pub const MAX_MESSAGE: usize = 8 << 10;
/// Buffered bytes that trigger a write.
const FLUSH_AT: usize = 64 << 10;
/// Maximum delay of a buffered line.
const FLUSH_INTERVAL: Duration = Duration::from_millis(50);
/// Interval between attempts to write the rest of a line.
const RETRY_INTERVAL: Duration = Duration::from_millis(200);
/// Maximum time that [`flush`] waits for a write in progress.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The formats, by discriminant.
const FORMATS: [LogFormat; 3] = [LogFormat::Json, LogFormat::Text, LogFormat::Short];

static SINK: OnceLock<Sink> = OnceLock::new();

/// Configuration of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// Format of a line.
    pub format: LogFormat,
    /// Minimum severity.
    pub level: LevelFilter,
    /// Whether each request is logged.
    pub access: bool,
}

words! {
    /// Format of a log line.
    LogFormat {
        /// One JSON object.
        Json = "json",
        /// `key=value` pairs without absent values.
        Text = "text",
        /// A short, readable line.
        Short = "short",
    }
}

/// Installs the logger.
///
/// # Errors
/// When another logger is installed.
pub fn install(config: &Log) -> Result<(), SetLoggerError> {
    let sink = SINK.get_or_init(|| Sink::new(stdout()));
    log::set_logger(sink)?;
    configure(config);
    // without the thread only `flush` writes; if no thread can be created, the process fails elsewhere
    let _ = std::thread::Builder::new().name("log".to_owned()).spawn(|| sink.run());
    Ok(())
}

/// Applies the format and level of a new configuration.
pub fn configure(config: &Log) {
    if let Some(sink) = SINK.get() {
        sink.configure(config);
        log::set_max_level(config.level);
    }
}

/// Writes an access-log line, if enabled.
pub fn write_access(line: &AccessLine<'_>) {
    if let Some(sink) = SINK.get() {
        sink.access(line);
    }
}

/// Writes the buffer, at the end of the process. Gives up after a second if stdout blocks.
pub fn flush() {
    if let Some(sink) = SINK.get() {
        sink.drain();
    }
}

/// Unbuffered stdout, so that the number of bytes written is known.
fn stdout() -> Box<dyn Write + Send> {
    match std::io::stdout().as_fd().try_clone_to_owned() {
        Ok(descriptor) => Box::new(File::from(descriptor)),
        Err(_) => Box::new(std::io::stdout()), // out of file descriptors
    }
}

/// Number of dropped lines.
pub fn dropped() -> u64 {
    SINK.get().map_or(0, |sink| sink.dropped.load(Relaxed))
}

struct Sink {
    buffer: Mutex<Vec<u8>>,
    filled: Condvar,
    output: Mutex<Output>,
    /// Whether unwritten output remains.
    has_pending: AtomicBool,
    dropped: AtomicU64,
    /// Index into [`FORMATS`].
    format: AtomicU8,
    access: AtomicBool,
}

struct Output {
    /// Lines being written, `written` bytes of them done. Swapped with the buffer to reuse both allocations.
    pending: Vec<u8>,
    written: usize,
    end: LineState,
    stream: Box<dyn Write + Send>,
}

/// The state of the end of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineState {
    /// After a complete line.
    Complete,
    /// Within a line whose rest is still to be written.
    Partial,
    /// Within a line whose rest was dropped.
    Truncated,
}

/// Why nothing can be written now.
enum WriteError {
    /// It would block.
    WouldBlock,
    /// It is full, or fails for another reason that may be temporary.
    Full,
    /// The reader has closed it.
    Closed,
}

thread_local! {
    /// Lines are formatted here, so that the buffer is locked only for a copy.
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Sink {
    fn new(stream: Box<dyn Write + Send>) -> Self {
        Self {
            buffer: Mutex::new(Vec::with_capacity(BUFFER)),
            filled: Condvar::new(),
            output: Mutex::new(Output { pending: Vec::with_capacity(BUFFER), written: 0, end: LineState::Complete, stream }),
            has_pending: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
            format: AtomicU8::new(LogFormat::Json as u8),
            access: AtomicBool::new(true),
        }
    }

    fn configure(&self, config: &Log) {
        self.format.store(config.format as u8, Relaxed);
        self.access.store(config.access, Relaxed);
    }

    fn access(&self, line: &AccessLine<'_>) {
        if self.access.load(Relaxed) {
            self.format_line(|out, format| match format {
                LogFormat::Short => short::access(out, line),
                LogFormat::Json | LogFormat::Text => line.write(out, format == LogFormat::Json),
            });
        }
    }

    fn format_line(&self, write: impl FnOnce(&mut Vec<u8>, LogFormat)) {
        // logging while formatting a line on the same thread would need a second buffer; such a line counts as dropped
        let done = LINE.try_with(|line| {
            let mut line = line.try_borrow_mut().ok()?;
            line.clear();
            let format = FORMATS.get(usize::from(self.format.load(Relaxed))).copied().unwrap_or(LogFormat::Json);
            write(&mut line, format);
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

    /// Runs the thread that writes the buffer.
    fn run(&self) {
        loop {
            let mut buffer = self.buffer.lock();
            while buffer.is_empty() {
                if !self.has_pending.load(Relaxed) {
                    self.filled.wait(&mut buffer);
                } else if self.filled.wait_for(&mut buffer, RETRY_INTERVAL).timed_out() {
                    break;
                }
            }
            if buffer.len() < FLUSH_AT {
                self.filled.wait_for(&mut buffer, FLUSH_INTERVAL);
            }
            drop(buffer);
            self.drain();
        }
    }

    fn drain(&self) {
        let Some(mut output) = self.output.try_lock_for(FLUSH_TIMEOUT) else { return };
        output.take(&mut self.buffer.lock());
        let lost = match output.write() {
            Ok(()) | Err(WriteError::WouldBlock) => 0,
            Err(WriteError::Full) => output.drop_lines(true),
            Err(WriteError::Closed) => output.drop_lines(false),
        };
        self.has_pending.store(!output.pending.is_empty(), Relaxed);
        if lost > 0 {
            self.dropped.fetch_add(lost, Relaxed);
        }
    }
}

impl Output {
    /// Moves the buffered lines here, unless the unwritten rest leaves too little space.
    fn take(&mut self, buffer: &mut Vec<u8>) {
        if self.pending.is_empty() {
            std::mem::swap(&mut self.pending, buffer);
        } else if self.pending.len() + buffer.len() <= BUFFER {
            self.pending.append(buffer);
        }
    }

    /// Writes until done or stuck.
    fn write(&mut self) -> Result<(), WriteError> {
        if self.end == LineState::Truncated && !self.pending.is_empty() {
            write_some(&mut self.stream, b"\n")?;
            self.end = LineState::Complete;
        }
        while let Some(rest) = self.pending.get(self.written..).filter(|rest| !rest.is_empty()) {
            self.written += write_some(&mut self.stream, rest)?;
            let whole = self.written.checked_sub(1).and_then(|last| self.pending.get(last)) == Some(&b'\n');
            self.end = if whole { LineState::Complete } else { LineState::Partial };
        }
        self.pending.clear();
        self.written = 0;
        Ok(())
    }

    /// Drops all unwritten lines and returns their number. `finish` keeps the rest of a partly written line.
    fn drop_lines(&mut self, finish: bool) -> u64 {
        self.pending.drain(..self.written);
        self.written = 0;
        let torn = if self.end == LineState::Partial { self.pending.iter().position(|b| *b == b'\n').map_or(0, |end| end + 1) } else { 0 };
        let kept = if finish { torn } else { 0 };
        if torn > kept {
            self.end = LineState::Truncated;
        }
        let lines = self.pending.get(kept..).unwrap_or_default().iter().filter(|b| **b == b'\n').count();
        self.pending.truncate(kept);
        lines as u64
    }
}

/// Number of bytes written, at least one.
fn write_some(stream: &mut impl Write, bytes: &[u8]) -> Result<usize, WriteError> {
    loop {
        match stream.write(bytes) {
            Ok(0) => return Err(WriteError::Full),
            Ok(written) => return Ok(written),
            Err(e) => match e.kind() {
                ErrorKind::Interrupted => {}
                ErrorKind::WouldBlock => return Err(WriteError::WouldBlock),
                ErrorKind::BrokenPipe => return Err(WriteError::Closed),
                _ => return Err(WriteError::Full),
            },
        }
    }
}

impl log::Log for Sink {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // The libraries' `info` records repeat or contradict the gateway's own, and their `debug` records contain whole
        // headers, including keys.
        let own = metadata.target().starts_with(env!("CARGO_PKG_NAME"));
        metadata.level() <= log::max_level() && (own || metadata.level() <= LevelFilter::Warn)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let mut message = Bounded(String::new());
        let _ = write!(message, "{}", record.args()); // fails when truncated
        let severity = if is_client_s(record.target(), &message.0) { log::Level::Debug } else { record.level() };
        if severity > log::max_level() {
            return;
        }
        let time = system::wall_clock();
        let message = redact_to(&message.0, MAX_MESSAGE);
        self.format_line(|out, format| {
            if format == LogFormat::Short {
                return short::record(out, time, level(severity), &message);
            }
            let mut line = Line::begin(out, format == LogFormat::Json, time);
            line.text(key!("level"), level(severity));
            line.text(key!("target"), record.target());
            line.text(key!("message"), &message);
            line.end();
        });
    }

    fn flush(&self) {
        self.drain();
    }
}

/// Whether a record of Pingora says that a client closed its connection before a request, which it logs as an error
/// (`handle_new_request` of pingora-proxy). [`Rejected::Incomplete`](super::labels::Rejected) counts these.
fn is_client_s(target: &str, message: &str) -> bool {
    let is_own = target.starts_with(env!("CARGO_PKG_NAME"));
    let rest = message.strip_prefix("Fail to proxy:").filter(|_| !is_own);
    rest.is_some_and(|rest| rest.trim_start().starts_with("Downstream") && rest.contains("downstream session type"))
}

/// A message truncated at [`MAX_SEARCHED`] bytes.
struct Bounded(String);

impl std::fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let room = MAX_SEARCHED.saturating_sub(self.0.len());
        let part = truncated(text, room);
        self.0.push_str(part);
        if part.len() < text.len() { Err(std::fmt::Error) } else { Ok(()) }
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
        let of_pingora = |text: &str| {
            sink.log(&Record::builder().level(log::Level::Error).target("pingora_proxy").args(format_args!("{text}")).build());
        };
        of_pingora("Fail to proxy:  Downstream ReadError cause: Connection reset, downstream session type: HTTP/1");
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
            sink.format_line(|out, _| out.extend_from_slice(&line));
        }
        assert_eq!(sink.dropped.load(Relaxed), 3);
        sink.drain();
        assert_eq!(text(&kept).lines().filter(|l| l.len() + 1 == line.len()).count(), fit);
        sink.format_line(|out, _| out.extend_from_slice(b"again\n"));
        sink.drain();
        assert!(text(&kept).ends_with("again\n"), "it goes on");
    }

    /// A disk or a pipe: takes `room` bytes, then fails.
    #[derive(Clone)]
    struct Device(Arc<Mutex<Medium>>);

    struct Medium {
        bytes: Vec<u8>,
        room: usize,
        fails: ErrorKind,
    }

    impl Write for Device {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let mut device = self.0.lock();
            let taken = bytes.len().min(device.room);
            if taken == 0 {
                return Err(device.fails.into());
            }
            device.room -= taken;
            device.bytes.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What a device has, and how many lines were dropped, after six lines and a seventh when it has room again.
    fn seven_lines(room: usize, fails: ErrorKind) -> (String, u64) {
        let device = Device(Arc::new(Mutex::new(Medium { bytes: Vec::new(), room, fails })));
        let sink = Sink::new(Box::new(device.clone()));
        for line in ["one\ntwo\nthree\n", "four\n", "five\n", "six\n"] {
            sink.format_line(|out, _| out.extend_from_slice(line.as_bytes()));
            sink.drain();
        }
        device.0.lock().room = usize::MAX;
        sink.format_line(|out, _| out.extend_from_slice(b"seven\n"));
        sink.drain();
        let text = String::from_utf8(device.0.lock().bytes.clone()).unwrap();
        (text, sink.dropped.load(Relaxed))
    }

    #[test]
    fn a_full_disk_loses_whole_lines_and_each_is_counted() {
        assert_eq!(seven_lines(0, ErrorKind::StorageFull), ("seven\n".to_owned(), 6));
        assert_eq!(seven_lines(4, ErrorKind::StorageFull), ("one\nseven\n".to_owned(), 5), "between two lines");
        assert_eq!(seven_lines(6, ErrorKind::StorageFull), ("one\ntwo\nseven\n".to_owned(), 4), "within the second one");
    }

    #[test]
    fn a_closed_pipe_loses_whole_lines_and_the_next_begins_on_a_fresh_one() {
        assert_eq!(seven_lines(4, ErrorKind::BrokenPipe), ("one\nseven\n".to_owned(), 5));
        assert_eq!(seven_lines(6, ErrorKind::BrokenPipe), ("one\ntw\nseven\n".to_owned(), 5));
    }

    #[test]
    fn an_output_that_would_block_loses_nothing() {
        let all = "one\ntwo\nthree\nfour\nfive\nsix\nseven\n".to_owned();
        assert_eq!(seven_lines(6, ErrorKind::WouldBlock), (all, 0));
    }

    #[test]
    fn a_message_without_end_is_cut() {
        let mut message = Bounded(String::new());
        assert!(write!(message, "{}", "é".repeat(MAX_SEARCHED)).is_err());
        assert_eq!(message.0.len(), MAX_SEARCHED);
        let (kept, _known) = (Kept::default(), crate::redact::KnownSecrets::new(["correct-horse-battery"]));
        let sink = Sink::new(Box::new(kept.clone()));
        log::set_max_level(LevelFilter::Info);
        let text = format!("{} correct-horse-battery", "word ".repeat(MAX_MESSAGE / 5 - 1));
        sink.log(&Record::builder().level(log::Level::Warn).target("edge").args(format_args!("{text}")).build());
        sink.drain();
        let line: serde_json::Value = serde_json::from_slice(&kept.0.lock()).unwrap();
        let message = line["message"].as_str().unwrap();
        assert!(message.len() == MAX_MESSAGE && !message.contains("corre"), "{}", message.len());
    }
}
