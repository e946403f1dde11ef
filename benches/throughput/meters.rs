//! What processes cost, from /proc. Used around the measured time of each round.

use anyhow::{Context, Result};
use std::{fs, time::Duration};

/// A tick of the times in /proc; Linux shows them to programs at 100 Hz on every machine.
const TICK: Duration = Duration::from_millis(10);

/// Whose CPU time is counted.
#[derive(Debug, Clone)]
pub(crate) struct Meters {
    /// The service, or all of its replicas; none in a raw round.
    pub(crate) servers: Vec<u32>,
    /// The postmaster, for itself and its children.
    pub(crate) postgres: u32,
    /// What stands before it, if anything does.
    pub(crate) pooler: Option<u32>,
}

/// CPU time, in user mode and in the kernel.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cpu {
    pub(crate) generator: Duration,
    pub(crate) server: Duration,
    pub(crate) postgres: Duration,
    pub(crate) pooler: Duration,
    /// What no process of the machine took, over all cores.
    pub(crate) idle: Duration,
}

impl Meters {
    pub(crate) fn read(&self) -> Result<Cpu> {
        let mut server = Duration::ZERO;
        for pid in &self.servers {
            server += cpu_of(*pid)?;
        }
        Ok(Cpu {
            generator: Stat::read("self")?.own,
            server,
            postgres: with_children(self.postgres)?,
            pooler: self.pooler.map_or(Ok(Duration::ZERO), cpu_of)?,
            idle: idle()?,
        })
    }
}

/// CPU time of a process without its children.
pub(crate) fn cpu_of(pid: u32) -> Result<Duration> {
    Ok(Stat::read(&pid.to_string())?.own)
}

/// Of all cores together; a core that waits for a disk has nothing else to do.
fn idle() -> Result<Duration> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().context("an empty /proc/stat")?;
    // cpu user nice system idle iowait …
    let mut ticks = line.split_whitespace().skip(4).map(str::parse::<u64>);
    let mut next = || -> Result<u64> { Ok(ticks.next().context("a short /proc/stat")??) };
    Ok(Duration::from_millis(10 * (next()? + next()?)))
}

impl Cpu {
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            generator: self.generator.saturating_sub(earlier.generator),
            server: self.server.saturating_sub(earlier.server),
            postgres: self.postgres.saturating_sub(earlier.postgres),
            pooler: self.pooler.saturating_sub(earlier.pooler),
            idle: self.idle.saturating_sub(earlier.idle),
        }
    }
}

struct Stat {
    parent: u32,
    own: Duration,
    ended_children: Duration,
}

impl Stat {
    fn read(pid: &str) -> Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name before the last bracket may hold anything.
        let fields: Vec<&str> = text
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        let field = |index: usize| -> Result<u32> {
            let text = fields.get(index).context("a short /proc/…/stat")?;
            Ok(text.parse()?)
        };
        Ok(Self {
            parent: field(1)?,
            own: TICK * (field(11)? + field(12)?),
            ended_children: TICK * (field(13)? + field(14)?),
        })
    }
}

/// A child that ends moves from the children to what its parent keeps of ended ones.
fn with_children(parent: u32) -> Result<Duration> {
    let stat = Stat::read(&parent.to_string())?;
    let mut sum = stat.own + stat.ended_children;
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().filter(|name| name.parse::<u32>().is_ok()) else {
            continue;
        };
        // It may have ended since the directory was read.
        if let Ok(child) = Stat::read(pid)
            && child.parent == parent
        {
            sum += child.own;
        }
    }
    Ok(sum)
}

/// Resident memory of a process in MB: now, and at its highest.
pub(crate) fn memory_mb(pid: u32) -> Result<(f64, f64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| -> Result<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kb = line.and_then(|line| line.split_whitespace().next());
        Ok(kb.context("no memory in /proc/…/status")?.parse::<f64>()? / 1024.0)
    };
    Ok((field("VmRSS:")?, field("VmHWM:")?))
}
