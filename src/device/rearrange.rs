//! A volume laid out anew: which of its bytes go where, and which are written
//! differently. Whoever plans such a change (an NTFS volume that shrinks) and
//! whoever carries it out (a restore) meet here; [`Rearranged`] is the result
//! as a source, so that it can be read and checked before anything is written.

use super::{SharedSource, Source};
use crate::error::{Error, Result};
use crate::units::ByteRange;
use std::sync::Arc;

/// One piece of an answer: where it is, or `None`, and how many bytes it has.
pub type Piece<'a> = &'a mut dyn FnMut(Option<u64>, u64) -> Result<()>;

/// What becomes of a volume. Offsets are bytes from its start.
pub trait Rearrangement: Send + Sync {
    /// Bytes it will have.
    fn new_len(&self) -> u64;

    /// Where bytes of the old volume go, in order, whole range covered.
    /// `None`: they are not kept.
    fn forward(&self, old: ByteRange, piece: Piece<'_>) -> Result<()>;

    /// Where bytes of the new volume come from, in order, whole range covered.
    /// `None`: from nowhere, they read as zeros. Patches lie above this.
    fn backward(&self, new: ByteRange, piece: Piece<'_>) -> Result<()>;

    /// Everything that is written differently, ascending by offset in the new
    /// volume, without overlaps, in pieces of at most 1 MiB.
    fn patches(&self, each: &mut dyn FnMut(u64, &[u8]) -> Result<()>) -> Result<()>;

    /// Puts what is written differently into `buf`, which holds the bytes of
    /// the new volume from `offset` on.
    fn patch_into(&self, offset: u64, buf: &mut [u8]) -> Result<()>;
}

/// The new volume, read out of the old one.
pub struct Rearranged {
    old: SharedSource,
    change: Arc<dyn Rearrangement>,
    name: String,
}

impl Rearranged {
    /// `old` as `change` will leave it.
    pub fn new(old: SharedSource, change: Arc<dyn Rearrangement>) -> Self {
        let name = format!("{}, laid out anew", old.name());
        Self { old, change, name }
    }
}

impl Source for Rearranged {
    fn len(&self) -> u64 {
        self.change.new_len()
    }
    fn sector_size(&self) -> u32 {
        self.old.sector_size()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let end = offset.checked_add(buf.len() as u64);
        let Some(end) = end.filter(|&e| e <= self.len()) else {
            return Err(Error::damaged(format!(
                "A read of {} bytes reaches behind the end ({} bytes)",
                buf.len(),
                self.len()
            ))
            .of(&*self.name)
            .at(offset));
        };
        let new = ByteRange { start: offset, end };
        let mut rest = &mut *buf;
        self.change.backward(new, &mut |from, len| {
            let (part, tail) = std::mem::take(&mut rest).split_at_mut(len as usize);
            rest = tail;
            match from {
                Some(at) => self.old.read_at(at, part),
                None => {
                    part.fill(0);
                    Ok(())
                }
            }
        })?;
        self.change.patch_into(offset, buf)
    }
    fn name(&self) -> &str {
        &self.name
    }
}
