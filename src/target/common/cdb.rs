//! Command blocks and other big-endian bytes, read and written without a way
//! to fail: what is not there reads as zero.

/// A command block, padded with zeros to 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cdb([u8; 16]);

impl Cdb {
    /// From what came in; longer ones are cut (no command here has more).
    pub fn of(bytes: &[u8]) -> Self {
        let mut b = [0; 16];
        for (to, from) in b.iter_mut().zip(bytes) {
            *to = *from;
        }
        Self(b)
    }

    /// Operation code.
    pub fn opcode(&self) -> u8 {
        self.0[0]
    }

    /// Service action of the commands that have it in byte 1.
    pub fn service_action(&self) -> u8 {
        self.0[1] & 0x1f
    }

    /// Length by the group of the operation code.
    pub fn len(&self) -> usize {
        match self.0[0] >> 5 {
            0 => 6,
            1 | 2 => 10,
            5 => 12,
            _ => 16,
        }
    }

    /// Never: a command block has at least its operation code.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// CONTROL, the last byte.
    pub fn control(&self) -> u8 {
        self.u8(self.len() - 1)
    }

    /// One byte.
    pub fn u8(&self, at: usize) -> u8 {
        byte(&self.0, at)
    }

    /// True when any bit of `mask` is set in byte `at`.
    pub fn bit(&self, at: usize, mask: u8) -> bool {
        self.u8(at) & mask != 0
    }

    /// Two bytes.
    pub fn u16(&self, at: usize) -> u16 {
        be(&self.0, at, 2) as u16
    }

    /// Three bytes.
    pub fn u24(&self, at: usize) -> u32 {
        be(&self.0, at, 3) as u32
    }

    /// Four bytes.
    pub fn u32(&self, at: usize) -> u32 {
        be(&self.0, at, 4) as u32
    }

    /// Eight bytes.
    pub fn u64(&self, at: usize) -> u64 {
        be(&self.0, at, 8)
    }
}

/// The byte at `at`, or zero behind the end.
pub fn byte(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

/// A big-endian number of `n` bytes, at most 8.
pub fn be(bytes: &[u8], at: usize, n: usize) -> u64 {
    (at..at.saturating_add(n.min(8))).fold(0, |v, i| v << 8 | u64::from(byte(bytes, i)))
}

/// Writes the low `n` bytes of `value` big-endian; what lies behind the end of
/// `bytes` is dropped.
pub fn put(bytes: &mut [u8], at: usize, n: usize, value: u64) {
    let all = value.to_be_bytes();
    let low = all.get(8 - n.min(8)..).unwrap_or_default();
    for (to, from) in bytes.iter_mut().skip(at).zip(low) {
        *to = *from;
    }
}

/// ASCII text in a field of `n` bytes, padded with spaces.
pub fn text(s: &str, n: usize) -> Vec<u8> {
    let mut v: Vec<u8> = s
        .bytes()
        .map(|b| if (0x20..0x7f).contains(&b) { b } else { b'?' })
        .take(n)
        .collect();
    v.resize(n, b' ');
    v
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        let c = Cdb::of(&[0x28, 0, 1, 2, 3, 4, 0, 0, 8, 0]);
        assert_eq!((c.u32(2), c.u16(7), c.len()), (0x0102_0304, 8, 10));
        assert_eq!(Cdb::of(&[]).u64(12), 0);
        let mut b = [0xff; 4];
        put(&mut b, 2, 4, 0x0102_0304);
        assert_eq!(b, [0xff, 0xff, 1, 2]);
        assert_eq!(text("a\u{e4}b", 5), b"a??b ");
    }
}
