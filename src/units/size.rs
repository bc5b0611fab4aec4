//! Sizes in words: `K M G T` are powers of 1024, as administrators write them.

/// `5G`, `512K`, `1.5T`, `4096`: bytes. `None` when it is not a size.
pub fn parse_size(text: &str) -> Option<u64> {
    let t = text.trim();
    let t = t
        .strip_suffix("iB")
        .or_else(|| t.strip_suffix('B'))
        .unwrap_or(t);
    let (digits, shift) = match t.chars().last()? {
        'k' | 'K' => (&t[..t.len() - 1], 10),
        'm' | 'M' => (&t[..t.len() - 1], 20),
        'g' | 'G' => (&t[..t.len() - 1], 30),
        't' | 'T' => (&t[..t.len() - 1], 40),
        _ => (t, 0),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return None;
    }
    match digits.split_once('.') {
        None => digits.parse::<u64>().ok()?.checked_mul(1 << shift),
        Some(_) if shift == 0 => None,
        Some(_) => {
            let v = digits.parse::<f64>().ok()? * (1u64 << shift) as f64;
            (v < 1.8e19).then_some(v as u64)
        }
    }
}

/// `3.4 GiB`, `512 bytes`.
pub fn human_bytes(n: u64) -> String {
    const NAMES: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if n < 1024 {
        return format!("{n} bytes");
    }
    let mut v = n as f64 / 1024.0;
    let mut i = 0;
    while v >= 1024.0 && i + 1 < NAMES.len() {
        v /= 1024.0;
        i += 1;
    }
    format!("{v:.1} {}", NAMES[i])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_and_print() {
        assert_eq!(parse_size("4096"), Some(4096));
        assert_eq!(parse_size("2K"), Some(2048));
        assert_eq!(parse_size("1.5G"), Some(3 << 29));
        assert_eq!(parse_size("1MiB"), Some(1 << 20));
        for bad in [
            "",
            "K",
            "x",
            "-1",
            "1.5",
            "99999999999999999999",
            "9999999999T",
        ] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
        assert_eq!(human_bytes(3 << 30), "3.0 GiB");
        assert_eq!(human_bytes(12), "12 bytes");
    }
}
