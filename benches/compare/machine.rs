//! What the numbers were measured on.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::statfs::{EXT4_SUPER_MAGIC, TMPFS_MAGIC, statfs};

/// How many times the disk is asked to make something durable.
const SYNCS: u32 = 50;

/// Lines about the machine, for the page.
pub(crate) fn describe(directory: &Path) -> io::Result<Vec<String>> {
    let cpu = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let cores = std::thread::available_parallelism()?;
    let memory = fs::read_to_string("/proc/meminfo")?;
    let kibibytes = memory.lines().find_map(|line| {
        line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    });
    let mut lines = vec![
        format!("{cores} cores, {}", model.unwrap_or("of an unknown kind").trim()),
        format!("{} GiB of memory", kibibytes.unwrap_or_default() >> 20),
        format!("Linux {}", fs::read_to_string("/proc/sys/kernel/osrelease")?.trim()),
        format!("what is stored lies on {}", file_system(directory)?),
        format!("the load was {} when it began", first(&fs::read_to_string("/proc/loadavg")?)),
    ];
    for (program, argument) in [("gocryptfs", "-version"), ("encfs", "--version")] {
        if let Ok(output) = Command::new(program).arg(argument).output() {
            let said = if output.stdout.is_empty() { output.stderr } else { output.stdout };
            let said = String::from_utf8_lossy(&said);
            lines.push(said.lines().next().unwrap_or(program).trim().to_owned());
        }
    }
    Ok(lines)
}

fn first(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or_default()
}

fn file_system(directory: &Path) -> io::Result<String> {
    let kind = match statfs(directory)?.filesystem_type() {
        EXT4_SUPER_MAGIC => "ext4".to_owned(),
        TMPFS_MAGIC => "tmpfs (so that nothing is really made durable)".to_owned(),
        other => format!("a file system with the magic number {:#x}", other.0),
    };
    let each = synced_append(directory, SYNCS)?.as_secs_f64() * 1000.0;
    Ok(format!("{kind}, where a small append with fdatasync takes {each:.2} ms"))
}

/// How long a small append with fdatasync takes, on average of so many.
pub(crate) fn synced_append(directory: &Path, times: u32) -> io::Result<Duration> {
    let path = directory.join("synced");
    let file = fs::File::create(&path)?;
    let started = Instant::now();
    for number in 0..times {
        io::Write::write_all(&mut &file, &number.to_le_bytes())?;
        file.sync_data()?;
    }
    let each = started.elapsed() / times;
    fs::remove_file(path)?;
    Ok(each)
}
