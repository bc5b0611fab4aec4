//! Protocol data units: the 48 bytes of the basic header segment, and what the
//! header of each kind says. Every 48 bytes decode; whether the values make sense
//! is for the session to judge.

mod headers;

pub use headers::*;

/// Bytes of a basic header segment.
pub const BHS: usize = 48;

/// The tag that stands for none.
pub const NO_TAG: u32 = 0xffff_ffff;

/// A basic header segment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Bhs(pub [u8; BHS]);

impl Bhs {
    /// All zero but the operation code.
    pub fn new(opcode: u8) -> Self {
        let mut b = [0; BHS];
        b[0] = opcode;
        Self(b)
    }

    /// Operation code, without the flag for immediate delivery.
    pub fn opcode(&self) -> u8 {
        self.0[0] & 0x3f
    }

    /// Flag for immediate delivery (bit 6 of byte 0).
    pub fn immediate(&self) -> bool {
        self.0[0] & 0x40 != 0
    }

    /// Bytes of the additional header segments: at most 1020.
    pub fn ahs_len(&self) -> usize {
        usize::from(self.0[4]) * 4
    }

    /// Sets the length of the additional header segments, in words.
    pub fn set_ahs_words(&mut self, words: u8) {
        self.0[4] = words;
    }

    /// Bytes of the data segment without padding: below 16 MiB.
    pub fn data_len(&self) -> usize {
        usize::from(self.0[5]) << 16 | usize::from(self.0[6]) << 8 | usize::from(self.0[7])
    }

    /// Sets the length of the data segment; the field has 24 bits.
    pub fn set_data_len(&mut self, len: usize) {
        let b = (len as u32).to_be_bytes();
        self.0[5..8].copy_from_slice(&b[1..]);
    }

    /// Initiator task tag.
    pub fn itt(&self) -> u32 {
        u32::get(&self.0, 16)
    }

    /// Writes a 32-bit field.
    pub fn set_u32(&mut self, at: usize, value: u32) {
        value.put(&mut self.0, at);
    }

    /// Reads a 32-bit field.
    pub fn u32_at(&self, at: usize) -> u32 {
        u32::get(&self.0, at)
    }
}

impl std::fmt::Debug for Bhs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", name_of(self.opcode()))?;
        for (i, b) in self.0.iter().enumerate() {
            write!(f, "{}{b:02x}", if i % 4 == 0 { " " } else { "" })?;
        }
        Ok(())
    }
}

/// A unit with all its segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pdu {
    /// Basic header segment.
    pub bhs: Bhs,
    /// Additional header segments.
    pub ahs: Vec<u8>,
    /// Data segment, without padding.
    pub data: Vec<u8>,
}

impl Pdu {
    /// A unit without additional headers; the length goes into the header.
    pub fn new(mut bhs: Bhs, data: Vec<u8>) -> Self {
        bhs.set_data_len(data.len());
        Self {
            bhs,
            ahs: Vec::new(),
            data,
        }
    }
}

/// The extended command block in additional header segments: what follows the
/// 16 bytes in the header.
pub fn extended_cdb(mut ahs: &[u8]) -> Option<&[u8]> {
    while let [hi, lo, kind, rest @ ..] = ahs {
        // The length counts from behind the kind; its first byte is reserved.
        let len = usize::from(*hi) << 8 | usize::from(*lo);
        let body = rest.get(..len)?;
        if kind & 0x3f == 1 {
            return body.get(1..);
        }
        ahs = rest.get(len + (4 - (len + 3) % 4) % 4..)?;
    }
    None
}

/// Field of a header, at a fixed place.
pub(crate) trait Field: Sized {
    fn get(b: &[u8; BHS], at: usize) -> Self;
    fn put(self, b: &mut [u8; BHS], at: usize);
}

macro_rules! numbers {
    ($($t:ty)*) => { $(impl Field for $t {
        fn get(b: &[u8; BHS], at: usize) -> Self {
            let mut a = [0; size_of::<$t>()];
            a.copy_from_slice(&b[at..at + size_of::<$t>()]);
            Self::from_be_bytes(a)
        }
        fn put(self, b: &mut [u8; BHS], at: usize) {
            b[at..at + size_of::<$t>()].copy_from_slice(&self.to_be_bytes());
        }
    })* };
}
numbers!(u8 u16 u32 u64);

impl<const N: usize> Field for [u8; N] {
    fn get(b: &[u8; BHS], at: usize) -> Self {
        let mut a = [0; N];
        a.copy_from_slice(&b[at..at + N]);
        a
    }
    fn put(self, b: &mut [u8; BHS], at: usize) {
        b[at..at + N].copy_from_slice(&self);
    }
}

/// A header whose meaning is known.
pub trait Header: Sized {
    /// Operation code.
    const OPCODE: u8;
    /// What a header says, whatever its operation code.
    fn decode(bhs: &Bhs) -> Self;
    /// As 48 bytes; the lengths of the segments are zero.
    fn encode(&self) -> Bhs;
}

#[cfg(test)]
mod tests;
