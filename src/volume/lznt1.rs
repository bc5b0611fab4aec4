//! LZNT1: the compression of NTFS streams. A stream is cut into units of
//! `2^compression_unit` clusters (16 as a rule); each compressed unit is a row
//! of chunks that expand to 4096 bytes each.
//!
//! | bytes | chunk |
//! |---|---|
//! | 2 | header: bits 0-11 length of what follows less 1, bits 12-14 always 3, bit 15 compressed; a header of 0 ends the unit |
//! | n | plain bytes, or groups of one flag byte and eight items: a literal byte or a two-byte back reference |

use crate::error::{Error, Result};

const CHUNK: usize = 4096;

/// Expands one compression unit. `out` is filled to its end: what the unit
/// does not give reads as zeros, and what it gives beyond is dropped. Fails
/// with `ErrorKind::Damaged` on a reference before the chunk or a cut chunk.
pub fn decompress(input: &[u8], out: &mut [u8]) -> Result<()> {
    let mut at = 0;
    let mut done = 0;
    while done < out.len() {
        let Some(header) = input.get(at..at + 2) else {
            break;
        };
        let header = u16::from_le_bytes([header[0], header[1]]);
        if header == 0 {
            break;
        }
        let len = usize::from(header & 0xfff) + 1;
        let Some(data) = input.get(at + 2..at + 2 + len) else {
            return Err(damaged(
                at,
                "A compressed chunk reaches behind the end of its unit",
            ));
        };
        if header >> 12 & 7 != 3 {
            return Err(damaged(at, "Found a compressed chunk without its mark"));
        }
        let end = out.len().min(done + CHUNK);
        let target = &mut out[done..end];
        let wrote = if header & 0x8000 != 0 {
            expand_chunk(data, target)
                .ok_or_else(|| damaged(at, "A compressed chunk refers to bytes before its start"))?
        } else {
            let n = data.len().min(target.len());
            target[..n].copy_from_slice(&data[..n]);
            n
        };
        // A short chunk stands for 4096 bytes all the same.
        target[wrote..].fill(0);
        done = end;
        at += 2 + len;
    }
    out[done..].fill(0);
    Ok(())
}

fn damaged(at: usize, what: &str) -> Error {
    Error::damaged(format!("{what} (byte {at} of the unit)"))
}

/// Expands the body of a chunk; `None` on a reference that leaves the chunk.
fn expand_chunk(data: &[u8], out: &mut [u8]) -> Option<usize> {
    let mut i = 0;
    let mut o = 0;
    while i < data.len() && o < out.len() {
        let flags = data[i];
        i += 1;
        if flags == 0 && i + 8 <= data.len() && o + 8 <= out.len() {
            out[o..o + 8].copy_from_slice(&data[i..i + 8]);
            (i, o) = (i + 8, o + 8);
            continue;
        }
        for bit in 0..8 {
            if i >= data.len() || o >= out.len() {
                break;
            }
            if flags >> bit & 1 == 0 {
                out[o] = data[i];
                (i, o) = (i + 1, o + 1);
                continue;
            }
            // A lone last byte cannot be a reference: the chunk ends here.
            let Some(t) = data.get(i..i + 2) else {
                return Some(o);
            };
            let token = u16::from_le_bytes([t[0], t[1]]);
            i += 2;
            let shift = offset_shift(o)?;
            let back = usize::from(token >> shift) + 1;
            let len = usize::from(token & ((1 << shift) - 1)) + 3;
            let len = len.min(out.len() - o);
            if back > o {
                return None;
            }
            if back >= len {
                out.copy_within(o - back..o - back + len, o);
            } else if back == 1 {
                let b = out[o - 1];
                out[o..o + len].fill(b);
            } else {
                for k in o..o + len {
                    out[k] = out[k - back];
                }
            }
            o += len;
        }
    }
    Some(o)
}

/// How many low bits of a reference are its length, `written` bytes into the
/// chunk; the others are the distance. `None` before the first byte.
#[inline]
fn offset_shift(written: usize) -> Option<u32> {
    let last = written.checked_sub(1)? as u32;
    // 12 while the distance fits 4 bits, one less for each further bit.
    let bits = 32 - last.leading_zeros();
    Some(16 - bits.clamp(4, 12))
}

/// What is in a compression unit, by how many of its clusters have a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// No cluster: zeros.
    Hole,
    /// All clusters: stored as they are.
    Plain,
    /// Some clusters, from the first on: LZNT1.
    Packed {
        /// How many clusters hold the packed bytes.
        clusters: u64,
    },
}

impl Unit {
    /// Decides by the number of allocated clusters of a unit.
    pub const fn of(allocated: u64, unit_clusters: u64) -> Unit {
        match allocated {
            0 => Unit::Hole,
            n if n >= unit_clusters => Unit::Plain,
            n => Unit::Packed { clusters: n },
        }
    }
}

/// Compresses for tests: greedy, with plain chunks where that is shorter.
#[cfg(test)]
pub(crate) fn compress(input: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for chunk in input.chunks(CHUNK) {
        let mut body = Vec::new();
        let mut o = 0;
        while o < chunk.len() {
            let flag_at = body.len();
            body.push(0);
            for bit in 0..8 {
                if o >= chunk.len() {
                    break;
                }
                let (mut best, mut from) = (0, 0);
                if let Some(shift) = offset_shift(o) {
                    let max = ((1 << shift) + 2).min(chunk.len() - o);
                    for back in 1..=o.min(1 << (16 - shift)) {
                        let n = (0..max)
                            .take_while(|k| chunk[o + k] == chunk[o + k - back])
                            .count();
                        if n > best {
                            (best, from) = (n, back);
                        }
                    }
                    if best >= 3 {
                        let token = ((from - 1) << shift | (best - 3)) as u16;
                        body[flag_at] |= 1 << bit;
                        body.extend_from_slice(&token.to_le_bytes());
                        o += best;
                        continue;
                    }
                }
                body.push(chunk[o]);
                o += 1;
            }
        }
        let (bits, body) = if body.len() < chunk.len() {
            (0xb000, &body[..])
        } else {
            (0x3000, chunk)
        };
        out.extend_from_slice(&(bits | (body.len() - 1) as u16).to_le_bytes());
        out.extend_from_slice(body);
    }
    out.extend_from_slice(&[0, 0]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_split_of_a_reference_follows_the_position() {
        let want = [
            (1, 12),
            (16, 12),
            (17, 11),
            (32, 11),
            (33, 10),
            (2048, 5),
            (2049, 4),
            (4096, 4),
        ];
        for (written, shift) in want {
            assert_eq!(offset_shift(written), Some(shift), "{written}");
        }
        assert_eq!(offset_shift(0), None);
    }

    #[test]
    fn expands_the_documented_example() {
        // MS-XCA: "F# F# G A A G F# E D F# ..." in 0x38 + 3 bytes.
        let packed = [
            0x38, 0xb0, 0x88, 0x46, 0x23, 0x20, 0x00, 0x20, 0x47, 0x20, 0x41, 0x00, 0x10, 0xa2,
            0x47, 0x01, 0xa0, 0x45, 0x20, 0x44, 0x00, 0x08, 0x45, 0x01, 0x50, 0x79, 0x00, 0xc0,
            0x45, 0x20, 0x05, 0x24, 0x13, 0x88, 0x05, 0xb4, 0x02, 0x4a, 0x44, 0xef, 0x03, 0x58,
            0x02, 0x8c, 0x09, 0x16, 0x01, 0x48, 0x45, 0x00, 0xbe, 0x00, 0x9e, 0x00, 0x04, 0x01,
            0x18, 0x90, 0x00,
        ];
        let text = "F# F# G A A G F# E D D E F# F# E E F# F# G A A G F# E D D E F# E D D E E \
                    F# D E F# G F# D E F# G F# E D E A F# F# G A A G F# E D D E F# E D D\0";
        let mut out = vec![0xff; text.len()];
        decompress(&packed, &mut out).unwrap();
        assert_eq!(String::from_utf8_lossy(&out), text);
    }

    #[test]
    fn a_reference_before_the_chunk_is_damage() {
        let mut out = [0; 64];
        assert!(decompress(&[0x02, 0xb0, 0x01, 0x00, 0x00], &mut out).is_err());
        assert!(decompress(&[0xff, 0xbf, 0x00], &mut out).is_err());
        assert!(decompress(&[0x00, 0x80, 0x00], &mut out).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn round_trip(words in prop::collection::vec((any::<u8>(), 1usize..40), 0..600),
                      random in prop::collection::vec(any::<u8>(), 0..6000)) {
            let mut data: Vec<u8> = words.iter().flat_map(|&(b, n)| vec![b; n]).collect();
            data.extend(&random);
            data.extend_from_within(..data.len() / 2);
            let packed = compress(&data);
            let mut out = vec![0xee; data.len() + 100];
            decompress(&packed, &mut out).unwrap();
            prop_assert_eq!(&out[..data.len()], &data[..]);
            prop_assert!(out[data.len()..].iter().all(|&b| b == 0));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(data in prop::collection::vec(any::<u8>(), 0..2000),
                                 compressed in any::<bool>(), size in 0usize..9000) {
            let mut data = data;
            if compressed && data.len() > 2 {
                let n = (data.len() - 3) as u16 & 0xfff;
                data[..2].copy_from_slice(&(0xb000 | n).to_le_bytes());
            }
            let _ = decompress(&data, &mut vec![1; size]);
        }
    }
}
