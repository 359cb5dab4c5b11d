//! What the machine has.

/// (needed, free) in GiB when `bytes` are more than `share` of the memory that is free; `None` when they fit, or where the
/// system does not tell.
pub fn lack_of_memory(bytes: f64, share: f64) -> Option<(f64, f64)> {
    let gib = f64::from(1u32 << 30);
    let free = free_memory()? as f64;
    (bytes > share * free).then_some((bytes / gib, free / gib))
}

/// Bytes of memory that are free for use; `None` where the system does not tell.
fn free_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}
