//! Parts of records that nobody but a copy manager has seen: there is no digest
//! to check, so nothing is gained by reading more than what is asked for.

use super::{Archive, lock, read_header};
use crate::archive::head::UNVERIFIED;
use crate::archive::header::{Codec, Kind, Provenance, RunKind};
use crate::error::Result;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A record whose data stands in the stream as it is, without a digest.
pub struct Unseen {
    /// `(first byte inside the region, bytes, kind)`, as in the header.
    pub runs: Vec<(u64, u64, RunKind)>,
    /// Where its data begins in the stream.
    data: u64,
}

impl Archive {
    /// The record of an entry, when parts of it can be read. None for all
    /// others, damaged ones among them: [`Archive::decode`] says what is wrong.
    pub fn unseen(&self, entry: u32) -> Option<Arc<Unseen>> {
        if !self.head.requires.iter().any(|r| r == UNVERIFIED) {
            return None;
        }
        let known = lock(&self.unseen).get(&entry).cloned();
        known.unwrap_or_else(|| {
            let found = self.look(entry, false).map(Arc::new);
            lock(&self.unseen).insert(entry, found.clone());
            found
        })
    }

    /// The same for a record of which some block cannot be read: what can be
    /// read of it has nothing to be compared with, and [`Archive::is_unsure`].
    pub fn without_digest(&self, entry: u32) -> Option<Arc<Unseen>> {
        let found = self.look(entry, true).map(Arc::new)?;
        self.unsure.store(true, Ordering::Relaxed);
        lock(&self.unseen).insert(entry, Some(found.clone()));
        Some(found)
    }

    /// True when data was read that has a digest, which could not be compared.
    pub fn is_unsure(&self) -> bool {
        self.unsure.load(Ordering::Relaxed)
    }

    fn look(&self, entry: u32, give_up: bool) -> Option<Unseen> {
        let e = self.index.entries.get(entry as usize)?;
        let h = read_header(&self.source, e.offset).ok()?;
        let fits = h.kind == Kind::Chunk
            && !e.mft
            && (h.region, h.position) == (e.region, e.position)
            && h.total_len() == u64::from(e.blocks) * super::BLOCK as u64
            && self.id().is_ok_and(|id| id == h.id)
            && e.offset.checked_add(h.total_len())? <= self.source.len();
        // One that was read back once has a digest to be checked against.
        let known = self
            .read_back
            .as_ref()
            .and_then(|f| f(h.sequence))
            .is_some();
        let unseen = h.provenance == Provenance::None && (give_up || !known);
        let bare = h.codec == Codec::Stored && unseen;
        let runs = h.byte_runs();
        let data = runs.iter().filter(|r| r.2 == RunKind::Data);
        let whole = data.map(|r| r.1).sum::<u64>() == h.stored_len && h.stored_len == h.raw_len;
        (fits && bare && whole).then(|| Unseen {
            runs,
            data: e.offset + h.len() as u64,
        })
    }

    /// Bytes of its data runs, from the `from`th on.
    pub fn read_unseen(&self, record: &Unseen, from: u64, buf: &mut [u8]) -> Result<()> {
        self.source.read_at(record.data + from, buf)
    }
}
