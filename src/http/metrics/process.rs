//! What the process holds of its machine, under the names that Prometheus' own libraries give it.
//! From `/proc`, so there is nothing of it where there is none.

use crate::metrics::Page;

/// Figures of this moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ProcessFigures {
    cpu_s: f64,
    start_s: f64,
    resident_bytes: u64,
    virtual_bytes: u64,
    open_fds: usize,
    /// None where there is no limit.
    max_fds: Option<u64>,
}

impl ProcessFigures {
    /// Reads them; blocks for as long as the kernel takes to list open files.
    #[cfg(target_os = "linux")]
    pub(super) fn read() -> Option<Self> {
        use procfs::{
            WithCurrentSystemInfo,
            process::{LimitValue, Process},
        };
        let process = Process::myself().ok()?;
        let stat = process.stat().ok()?;
        let seconds = |ticks: u64| ticks as f64 / procfs::ticks_per_second() as f64;
        Some(Self {
            cpu_s: seconds(stat.utime + stat.stime),
            start_s: procfs::boot_time_secs().ok()? as f64 + seconds(stat.starttime),
            resident_bytes: stat.rss_bytes().get(),
            virtual_bytes: stat.vsize,
            open_fds: process.fd_count().ok()?,
            max_fds: match process.limits().ok()?.max_open_files.soft_limit {
                LimitValue::Value(max) => Some(max),
                LimitValue::Unlimited => None,
            },
        })
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn read() -> Option<Self> {
        None
    }

    pub(super) fn write(&self, page: &mut Page) {
        page.counter(
            "process_cpu_seconds_total",
            "Processor time used, by the process and by the kernel for it.",
        )
        .value(self.cpu_s);
        page.gauge(
            "process_resident_memory_bytes",
            "Memory held in the machine.",
        )
        .value(self.resident_bytes);
        page.gauge("process_virtual_memory_bytes", "Memory addressed.")
            .value(self.virtual_bytes);
        page.gauge("process_open_fds", "Open files and sockets.")
            .value(self.open_fds);
        if let Some(max_fds) = self.max_fds {
            page.gauge("process_max_fds", "The most of them.")
                .value(max_fds);
        }
        page.gauge(
            "process_start_time_seconds",
            "When the process was started, in seconds since 1970.",
        )
        .value(self.start_s);
    }
}
