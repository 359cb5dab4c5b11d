//! What the machine has, and sizes as people write them.

use std::str::FromStr;

/// A number of bytes, written as `8GiB`, `500MB` or `1000000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}`: expected a size such as 8GiB or 500MB");
        let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let scale: f64 = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1.0,
            "kb" => 1e3,
            "mb" => 1e6,
            "gb" => 1e9,
            "tb" => 1e12,
            "k" | "kib" => 1024.0,
            "m" | "mib" => 1024f64.powi(2),
            "g" | "gib" => 1024f64.powi(3),
            "t" | "tib" => 1024f64.powi(4),
            _ => return Err(wrong()),
        };
        let bytes = number.parse::<f64>().map_err(|_| wrong())? * scale;
        if bytes >= 1.0 { Ok(Self(bytes as u64)) } else { Err(wrong()) }
    }
}

impl std::fmt::Display for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mib = self.0 as f64 / f64::from(1u32 << 20);
        if mib < 1024.0 { write!(f, "{mib:.1} MiB") } else { write!(f, "{:.2} GiB", mib / 1024.0) }
    }
}

/// Part of the free memory that is used where the user does not say.
const MEMORY_SHARE: f64 = 0.8;

/// Bytes that may be used: the limit, or a part of what is free.
pub fn allowed_memory(limit: Option<Bytes>) -> u64 {
    let free = || free_memory().map(|free| (free as f64 * MEMORY_SHARE) as u64);
    limit.map(|bytes| bytes.0).or_else(free).unwrap_or(u64::MAX)
}

/// Bytes of memory that are free for use; `None` where the system does not tell.
fn free_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let read = |text: &str| text.parse::<Bytes>().map(|b| b.0).ok();
        assert_eq!(read("8GiB"), Some(8 << 30));
        assert_eq!(read("500MB"), Some(500_000_000));
        assert_eq!(read("1.5 kib"), Some(1536));
        assert_eq!(read("77"), Some(77));
        for wrong in ["", "GiB", "8 parsecs", "-1MB", "1.2.3GB", "0"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
