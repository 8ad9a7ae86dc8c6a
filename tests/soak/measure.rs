//! What the gateway's process holds while it serves nobody: gauges, descriptors, memory.

use crate::harness::gateway::Gateway;
use crate::report::Report;
use std::time::{Duration, Instant};

/// Descriptors that the process may have more at the end than after the warm-up: idle connections to providers.
const MORE_DESCRIPTORS: usize = 48;
/// Memory that it may have more, as a part of what it had and in KiB: the allocator returns pages by and by.
const MORE_MEMORY: (f64, u64) = (0.5, 48 << 10);
/// How long it may take to settle: the deadlines of what was under way, and those of idle upstream connections.
const SETTLE: Duration = Duration::from_secs(100);

/// Figures of one moment.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Series of requests in flight and open streams that are not 0.
    gauges: Vec<String>,
    descriptors: usize,
    /// KiB.
    resident: u64,
}

/// The figures once they are as they must be; the last ones seen where they never are.
pub async fn settled(gateway: &Gateway, start: Option<&Figures>) -> Figures {
    let until = Instant::now() + SETTLE;
    let mut before = None;
    loop {
        let now = figures(gateway).await;
        let good = now.gauges.is_empty() && start.is_none_or(|start| now.descriptors(start).is_ok() && now.memory(start).is_ok());
        // Of the start the same descriptors twice are enough.
        let steady = start.is_some() || before == Some(now.descriptors);
        if (good && steady) || Instant::now() > until {
            return now;
        }
        before = Some(now.descriptors);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn figures(gateway: &Gateway) -> Figures {
    let metrics = gateway.metrics().await;
    let gauge = |line: &&str| line.starts_with("tidegate_in_flight_requests{") || line.starts_with("tidegate_open_streams{");
    let gauges = metrics.lines().filter(gauge).filter(|line| !line.ends_with(" 0")).map(str::to_owned).collect();
    let process = format!("/proc/{}", gateway.pid());
    let status = std::fs::read_to_string(format!("{process}/status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok()).unwrap();
    Figures { gauges, descriptors: std::fs::read_dir(format!("{process}/fd")).unwrap().count(), resident }
}

impl Figures {
    fn descriptors(&self, start: &Self) -> Result<String, String> {
        let most = start.descriptors + MORE_DESCRIPTORS;
        let text = format!("{} at the start, {} at the end, at most {most}", start.descriptors, self.descriptors);
        if self.descriptors <= most { Ok(text) } else { Err(text) }
    }

    fn memory(&self, start: &Self) -> Result<String, String> {
        let (part, more) = MORE_MEMORY;
        let most = start.resident + (start.resident as f64 * part) as u64 + more;
        let text = format!("{} KiB at the start, {} KiB at the end, at most {most} KiB", start.resident, self.resident);
        if self.resident <= most { Ok(text) } else { Err(text) }
    }
}

/// Compares the end with the start.
pub fn check(start: &Figures, end: &Figures, report: &Report) {
    report.check("gauges are 0", if end.gauges.is_empty() { Ok("all".to_owned()) } else { Err(end.gauges.join(", ")) });
    report.check("descriptors are back", end.descriptors(start));
    report.check("memory is back", end.memory(start));
}
