//! Sense data as bytes: fixed (70h, 71h) and descriptor format (72h, 73h).
//! What comes in may be cut off, or lie about its length.

use super::{Forwarded, Sense, SenseKey};

/// Sense data is never longer than this.
const MOST: usize = 252;
/// Most bytes of another unit's sense that are passed on in one descriptor.
const FORWARD_MOST: usize = 100;
const FIXED_HEAD: usize = 18;
const CHECK_CONDITION: u8 = 0x02;

fn byte(b: &[u8], at: usize) -> u8 {
    b.get(at).copied().unwrap_or(0)
}

fn array<const N: usize>(b: &[u8], at: usize) -> Option<[u8; N]> {
    b.get(at..at.checked_add(N)?)?.try_into().ok()
}

impl Sense {
    /// From the bytes a unit gave; none when they are no sense data. What
    /// is cut off counts as zero.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let raw = bytes.get(..bytes.len().min(MOST))?;
        let code = raw.first()? & 0x7f;
        let mut sense = match code {
            0x70 | 0x71 => fixed(cut(raw, 3)?),
            0x72 | 0x73 => descriptors(cut(raw, 2)?),
            _ => return None,
        };
        sense.deferred = code & 1 != 0;
        sense.raw = raw.into();
        Some(sense)
    }

    /// In the fixed format. An INFORMATION that 32 bits cannot hold is left
    /// out, as SPC says.
    pub fn encode_fixed(&self) -> Vec<u8> {
        let mut out = vec![0u8; FIXED_HEAD];
        out[0] = 0x70 | u8::from(self.deferred);
        out[2] = u8::from(self.filemark) << 7
            | u8::from(self.eom) << 6
            | u8::from(self.ili) << 5
            | self.key as u8;
        if let Some(info) = self.information
            && (i64::from(i32::MIN)..=i64::from(u32::MAX)).contains(&info)
        {
            out[0] |= 0x80;
            out[3..7].copy_from_slice(&(info as u32).to_be_bytes());
        }
        out[8..12].copy_from_slice(&(self.command_specific as u32).to_be_bytes());
        out[12] = self.asc;
        out[13] = self.ascq;
        if let Some([flags, a, b]) = self.sense_key_specific {
            out[15..18].copy_from_slice(&[flags | 0x80, a, b]);
        }
        if self.key == SenseKey::CopyAborted {
            out[8] = 0;
            out[9] = 0;
            for (at, area) in [(8, &self.source), (9, &self.destination)] {
                if let Some(f) = area {
                    out[at] = out.len() as u8;
                    out.push(f.status);
                    out.extend(f.sense.iter().take(FORWARD_MOST));
                }
            }
        }
        out[7] = (out.len() - 8) as u8;
        out
    }

    /// In the descriptor format.
    pub fn encode_descriptor(&self) -> Vec<u8> {
        let mut out = vec![0u8; 8];
        out[0] = 0x72 | u8::from(self.deferred);
        out[1] = self.key as u8;
        out[2] = self.asc;
        out[3] = self.ascq;
        let copy = self.key == SenseKey::CopyAborted;
        // First, so that the number of the segment is in bytes 14 and 15.
        if copy || self.command_specific != 0 {
            let value = match copy {
                true => (self.command_specific & 0xffff) << 32,
                false => self.command_specific,
            };
            out.extend([0x01, 0x0a, 0, 0]);
            out.extend(value.to_be_bytes());
        }
        if let Some(info) = self.information {
            out.extend([0x00, 0x0a, 0x80, 0]);
            out.extend(info.to_be_bytes());
        }
        if let Some([flags, a, b]) = self.sense_key_specific {
            out.extend([0x02, 0x06, 0, 0, flags | 0x80, a, b, 0]);
        }
        if self.filemark || self.eom || self.ili {
            let bits =
                u8::from(self.filemark) << 7 | u8::from(self.eom) << 6 | u8::from(self.ili) << 5;
            out.extend([0x04, 0x02, 0, bits]);
        }
        if copy {
            for (which, area) in [(1, &self.source), (2, &self.destination)] {
                if let Some(f) = area {
                    let sense = f.sense.get(..FORWARD_MOST).unwrap_or(&f.sense);
                    let cut = sense.len() < f.sense.len();
                    out.extend([0x0c, sense.len() as u8 + 2, u8::from(cut) << 7 | which]);
                    out.push(f.status);
                    out.extend(sense);
                }
            }
        }
        out[7] = (out.len() - 8) as u8;
        out
    }
}

/// What the ADDITIONAL SENSE LENGTH says is there, if at least `least` bytes.
fn cut(raw: &[u8], least: usize) -> Option<&[u8]> {
    let end = match raw.get(7) {
        Some(n) => raw.len().min(8 + usize::from(*n)),
        None => raw.len(),
    };
    raw.get(..end).filter(|b| b.len() >= least)
}

fn fixed(b: &[u8]) -> Sense {
    let flags = byte(b, 2);
    let mut sense = Sense::new(SenseKey::of(flags), byte(b, 12), byte(b, 13));
    sense.filemark = flags & 0x80 != 0;
    sense.eom = flags & 0x40 != 0;
    sense.ili = flags & 0x20 != 0;
    if byte(b, 0) & 0x80 != 0 {
        sense.information = array(b, 3).map(|v| i32::from_be_bytes(v).into());
    }
    sense.command_specific = array(b, 8).map_or(0, |v| u32::from_be_bytes(v).into());
    sense.sense_key_specific = array(b, 15).filter(|v: &[u8; 3]| v[0] & 0x80 != 0);
    if sense.key == SenseKey::CopyAborted {
        sense.command_specific &= 0xffff;
        let (source, destination) = (byte(b, 8).into(), byte(b, 9).into());
        sense.source = area(b, source, destination);
        sense.destination = area(b, destination, source);
    }
    sense
}

/// Status and sense at an offset, up to the other such area or the end.
fn area(b: &[u8], at: usize, other: usize) -> Option<Forwarded> {
    let end = match other > at {
        true => other.min(b.len()),
        false => b.len(),
    };
    let area = b.get(at..end).filter(|_| at >= FIXED_HEAD)?;
    let (&first, rest) = area.split_first()?;
    // Some units point at the sense data, one byte behind the status. No status
    // has the value of a response code.
    Some(match first & 0x7f {
        0x70..=0x73 => Forwarded {
            status: CHECK_CONDITION,
            sense: area.into(),
        },
        _ => Forwarded {
            status: first,
            sense: rest.into(),
        },
    })
}

fn descriptors(b: &[u8]) -> Sense {
    let mut sense = Sense::new(SenseKey::of(byte(b, 1)), byte(b, 2), byte(b, 3));
    let mut rest = b.get(8..).unwrap_or_default();
    while let [kind, len, ..] = *rest {
        let end = rest.len().min(2 + usize::from(len));
        let (d, next) = rest.split_at(end);
        rest = next;
        match kind {
            0x00 if byte(d, 2) & 0x80 != 0 => {
                sense.information = array(d, 4).map(i64::from_be_bytes);
            }
            0x01 => sense.command_specific = array(d, 4).map_or(0, u64::from_be_bytes),
            0x02 => {
                sense.sense_key_specific = array(d, 4).filter(|v: &[u8; 3]| v[0] & 0x80 != 0);
            }
            0x04 => {
                let bits = byte(d, 3);
                sense.filemark = bits & 0x80 != 0;
                sense.eom = bits & 0x40 != 0;
                sense.ili = bits & 0x20 != 0;
            }
            0x05 => sense.ili = byte(d, 3) & 0x20 != 0,
            0x0c if d.len() >= 4 => {
                let f = Forwarded {
                    status: byte(d, 3),
                    sense: d.get(4..).unwrap_or_default().into(),
                };
                match byte(d, 2) & 0x0f {
                    1 => sense.source = Some(f),
                    2 => sense.destination = Some(f),
                    _ => {}
                }
            }
            _ => {}
        }
    }
    if sense.key == SenseKey::CopyAborted {
        // In the third and fourth byte of eight; some units right-align it.
        let wide = sense.command_specific;
        sense.command_specific = match wide >> 32 {
            0 => wide & 0xffff,
            high => high & 0xffff,
        };
    }
    sense
}
