//! One way to stdout, for the application's records and for the access log, that never makes a request wait.
//!
//! A line is written into a buffer of [`BUFFER`] bytes; a thread of its own empties it into stdout. A line that cannot be
//! written is dropped whole and counted (`tidegate_log_lines_dropped_total`):
//!
//! | stdout | the line that it took in part | lines after it |
//! | --- | --- | --- |
//! | too slow, or would block | written when it takes more | wait; dropped where the buffer is full |
//! | full, or fails | written when it takes more | dropped |
//! | closed | dropped; the next one begins on a fresh line | dropped |

use super::access::{AccessLine, Line, key};
use super::short;
use crate::redact::{MAX_SEARCHED, redact_to};
use log::{LevelFilter, Metadata, Record, SetLoggerError};
use parking_lot::{Condvar, Mutex};
use std::cell::RefCell;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

/// Most bytes that wait for stdout; another as many may be on their way into it.
pub const BUFFER: usize = 1 << 20;
/// Longest message of a record in bytes; the rest is cut off.
pub const MESSAGE: usize = 8 << 10;
/// So many bytes are written at once without waiting for more.
const FLUSH_AT: usize = 64 << 10;
/// The longest that a line waits for others.
const FLUSH_EVERY: Duration = Duration::from_millis(50);
/// Between two tries to write the rest of a line.
const RETRY_EVERY: Duration = Duration::from_millis(200);
/// The longest that [`flush`] waits for a write in progress.
const FLUSH_WAIT: Duration = Duration::from_secs(1);

/// The formats, in the order of their numbers.
const FORMATS: [LogFormat; 3] = [LogFormat::Json, LogFormat::Text, LogFormat::Short];

static SINK: OnceLock<Sink> = OnceLock::new();

/// What goes to stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// How a line looks.
    pub format: LogFormat,
    /// Least severe level that is written.
    pub level: LevelFilter,
    /// Whether every request gets an access-log line.
    pub access: bool,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object.
    Json,
    /// `key=value`, with every field that is there.
    Text,
    /// A few words.
    Short,
}

/// Sends all records and access lines to stdout, from now on.
///
/// # Errors
/// Where a logger is there already.
pub fn install(config: &Log) -> Result<(), SetLoggerError> {
    let sink = SINK.get_or_init(|| Sink::new(stdout()));
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

/// Stdout without a buffer, which would hide how much of a line has been written.
fn stdout() -> Box<dyn Write + Send> {
    match std::io::stdout().as_fd().try_clone_to_owned() {
        Ok(descriptor) => Box::new(File::from(descriptor)),
        Err(_) => Box::new(std::io::stdout()), // no descriptor is left
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
    /// Whether the output has something that it could not write.
    waiting: AtomicBool,
    dropped: AtomicU64,
    /// A [`LogFormat`] by its place in [`FORMATS`].
    format: AtomicU8,
    access: AtomicBool,
}

struct Output {
    /// What is being written, of which `written` bytes are. Swapped with the buffer, so that neither is allocated again.
    spare: Vec<u8>,
    written: usize,
    end: End,
    stream: Box<dyn Write + Send>,
}

/// How the output ends so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// With a whole line.
    Whole,
    /// Within a line, whose rest is being written.
    Torn,
    /// Within a line whose rest was dropped.
    Broken,
}

/// Why an output takes no more for now.
enum Stuck {
    /// It would block.
    Busy,
    /// It has no room, or fails for another reason that may pass.
    Full,
    /// Nobody reads it.
    Closed,
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
            output: Mutex::new(Output { spare: Vec::with_capacity(BUFFER), written: 0, end: End::Whole, stream }),
            waiting: AtomicBool::new(false),
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
            self.compose(|out, format| match format {
                LogFormat::Short => short::access(out, line),
                LogFormat::Json | LogFormat::Text => line.write(out, format == LogFormat::Json),
            });
        }
    }

    fn compose(&self, write: impl FnOnce(&mut Vec<u8>, LogFormat)) {
        // a line that is begun while another is composed on this thread would need a second buffer; it is counted as lost
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

    /// The thread that empties the buffer.
    fn run(&self) {
        loop {
            let mut buffer = self.buffer.lock();
            while buffer.is_empty() {
                if !self.waiting.load(Relaxed) {
                    self.filled.wait(&mut buffer);
                } else if self.filled.wait_for(&mut buffer, RETRY_EVERY).timed_out() {
                    break;
                }
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
        output.take(&mut self.buffer.lock());
        let lost = match output.write() {
            Ok(()) | Err(Stuck::Busy) => 0,
            Err(Stuck::Full) => output.drop_lines(true),
            Err(Stuck::Closed) => output.drop_lines(false),
        };
        self.waiting.store(!output.spare.is_empty(), Relaxed);
        if lost > 0 {
            self.dropped.fetch_add(lost, Relaxed);
        }
    }
}

impl Output {
    /// Takes over the lines in `buffer`, unless the unwritten rest leaves no room for them.
    fn take(&mut self, buffer: &mut Vec<u8>) {
        if self.spare.is_empty() {
            std::mem::swap(&mut self.spare, buffer);
        } else if self.spare.len() + buffer.len() <= BUFFER {
            self.spare.append(buffer);
        }
    }

    /// Writes until all is written, or no more can be.
    fn write(&mut self) -> Result<(), Stuck> {
        if self.end == End::Broken && !self.spare.is_empty() {
            write_some(&mut self.stream, b"\n")?;
            self.end = End::Whole;
        }
        while let Some(rest) = self.spare.get(self.written..).filter(|rest| !rest.is_empty()) {
            self.written += write_some(&mut self.stream, rest)?;
            let whole = self.written.checked_sub(1).and_then(|last| self.spare.get(last)) == Some(&b'\n');
            self.end = if whole { End::Whole } else { End::Torn };
        }
        self.spare.clear();
        self.written = 0;
        Ok(())
    }

    /// Drops all unwritten lines and returns their number. With `finish`, the rest of a torn line stays.
    fn drop_lines(&mut self, finish: bool) -> u64 {
        self.spare.drain(..self.written);
        self.written = 0;
        let torn = if self.end == End::Torn { self.spare.iter().position(|b| *b == b'\n').map_or(0, |end| end + 1) } else { 0 };
        let kept = if finish { torn } else { 0 };
        if torn > kept {
            self.end = End::Broken;
        }
        let lines = self.spare.get(kept..).unwrap_or_default().iter().filter(|b| **b == b'\n').count();
        self.spare.truncate(kept);
        lines as u64
    }
}

/// How many bytes were written, at least one.
fn write_some(stream: &mut impl Write, bytes: &[u8]) -> Result<usize, Stuck> {
    loop {
        match stream.write(bytes) {
            Ok(0) => return Err(Stuck::Full),
            Ok(written) => return Ok(written),
            Err(e) => match e.kind() {
                ErrorKind::Interrupted => {}
                ErrorKind::WouldBlock => return Err(Stuck::Busy),
                ErrorKind::BrokenPipe => return Err(Stuck::Closed),
                _ => return Err(Stuck::Full),
            },
        }
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
        let time = u64::try_from(since.as_nanos()).unwrap_or_default();
        let message = redact_to(&message.0, MESSAGE);
        self.compose(|out, format| {
            if format == LogFormat::Short {
                return short::record(out, time, level(record.level()), &message);
            }
            let mut line = Line::begin(out, format == LogFormat::Json, time);
            line.text(key!("level"), level(record.level()));
            line.text(key!("target"), record.target());
            line.text(key!("message"), &message);
            line.end();
        });
    }

    fn flush(&self) {
        self.drain();
    }
}

/// A message that stops growing at [`MAX_SEARCHED`] bytes.
struct Bounded(String);

impl std::fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let room = MAX_SEARCHED.saturating_sub(self.0.len());
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
            sink.compose(|out, _| out.extend_from_slice(line.as_bytes()));
            sink.drain();
        }
        device.0.lock().room = usize::MAX;
        sink.compose(|out, _| out.extend_from_slice(b"seven\n"));
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
        let text = format!("{} correct-horse-battery", "word ".repeat(MESSAGE / 5 - 1));
        sink.log(&Record::builder().level(log::Level::Warn).target("edge").args(format_args!("{text}")).build());
        sink.drain();
        let line: serde_json::Value = serde_json::from_slice(&kept.0.lock()).unwrap();
        let message = line["message"].as_str().unwrap();
        assert!(message.len() == MESSAGE && !message.contains("corre"), "{}", message.len());
    }
}
