//! A redis-server of a test's own.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Far beyond what anything here takes on a machine that is not broken.
pub const LONG: Duration = Duration::from_secs(30);

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Asks until it is so.
pub fn until(what: &str, mut is: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < LONG, "{what} did not come to pass");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A redis-server in any mode; stopped when dropped.
pub struct Redis {
    pub port: u16,
    arguments: Vec<String>,
    password: Option<&'static str>,
    process: Option<Child>,
}

impl Redis {
    /// Starts one that stores nothing.
    pub fn start() -> Self {
        let mut redis = Self::new(free_port());
        redis.again();
        redis
    }

    /// One that stores nothing, on this port; not started yet.
    pub fn new(port: u16) -> Self {
        let own = port.to_string();
        let folder = std::env::temp_dir().display().to_string();
        let arguments = ["--port", &own, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", &folder];
        Self { port, arguments: arguments.map(str::to_owned).to_vec(), password: None, process: None }
    }

    /// Starts one that stores nothing, with more arguments.
    pub fn with(port: u16, more: &[&str], password: Option<&'static str>) -> Self {
        let mut redis = Self::new(port);
        redis.password = password;
        redis.arguments.extend(more.iter().map(|&argument| argument.to_owned()));
        redis.again();
        redis
    }

    /// Starts one with these arguments alone.
    pub fn run(port: u16, arguments: &[&str], password: Option<&'static str>) -> Self {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let mut redis = Self { port, arguments, password, process: None };
        redis.again();
        redis
    }

    /// Starts it, empty, on its port, unless it runs.
    pub fn again(&mut self) {
        if self.process.is_some() {
            return;
        }
        let process = Command::new("redis-server").args(&self.arguments).stdout(Stdio::null()).spawn();
        self.process = Some(process.expect("redis-server is installed"));
        until("the start of redis-server", || self.connection().is_some());
    }

    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn connection(&self) -> Option<redis::Connection> {
        let user = self.password.map_or_else(String::new, |password| format!(":{password}@"));
        let mut connection = redis::Client::open(format!("redis://{user}127.0.0.1:{}", self.port)).unwrap().get_connection().ok()?;
        redis::cmd("PING").query::<String>(&mut connection).ok()?;
        Some(connection)
    }

    pub fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(word);
        }
        // A replica that loads its primary's data answers nothing, and one to which a fail-over gives another role closes
        // its connections and may refuse new ones for a moment.
        let mut answer = None;
        until("an answer of redis-server", || {
            let Some(mut connection) = self.connection() else { return false };
            answer = Some(command.query(&mut connection)).filter(|answer| !answer.as_ref().is_err_and(redis::RedisError::is_io_error));
            answer.is_some()
        });
        answer.unwrap().unwrap()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop();
    }
}
