//! Putting records into the stream, strictly forward.

use super::head::{DiskInfo, Head};
use super::header::{Codec, Header, Kind, RunKind, Totals};
use super::index::Index;
use super::pack::{Packed, Packer};
use crate::error::{Error, Result};
use std::io::{self, Write};

/// The 16 random bytes that mark every record of one archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchiveId(pub [u8; 16]);

impl ArchiveId {
    /// In hex, as Head has it.
    pub fn hex(&self) -> String {
        self.0.iter().map(|b| format!("{b:02x}")).collect()
    }
}

/// Writes a stream. What was written before it is finished is an incomplete
/// archive, and readers say so.
pub struct Writer<W> {
    out: W,
    id: ArchiveId,
    sequence: u64,
    offset: u64,
    headers: blake3::Hasher,
    index: Index,
    totals: Totals,
    head: Vec<u8>,
    disk: Vec<u8>,
    scratch: Vec<u8>,
    /// Tail ends at a multiple of this many bytes.
    align: u64,
}

impl<W> Writer<W> {
    /// A writer for a stream that exists in part: give it every record that is
    /// already there with [`Writer::adopt`], the output standing behind them.
    pub fn take_up(out: W, id: ArchiveId, head: Vec<u8>, disk: Vec<u8>) -> Self {
        Self {
            out,
            id,
            sequence: 0,
            offset: 0,
            headers: blake3::Hasher::new(),
            index: Head::parse(&head).map_or_else(|_| Index::default(), |h| Index::of(&h)),
            totals: Totals::default(),
            head,
            disk,
            scratch: Vec::new(),
            align: super::BLOCK as u64,
        }
    }

    /// The same stream, going on elsewhere.
    pub fn with_output<V>(self, out: V) -> Writer<V> {
        Writer {
            out,
            id: self.id,
            sequence: self.sequence,
            offset: self.offset,
            headers: self.headers,
            index: self.index,
            totals: self.totals,
            head: self.head,
            disk: self.disk,
            scratch: self.scratch,
            align: self.align,
        }
    }

    /// Makes the stream end at a multiple of `bytes`, the length of a tape
    /// block; Head must require [`GAP`](super::GAP).
    pub fn set_block(&mut self, bytes: u32) {
        self.align = u64::from(bytes.max(super::BLOCK as u32));
    }

    /// Bytes written so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The archive's id.
    pub fn id(&self) -> ArchiveId {
        self.id
    }

    /// The output, to move it behind the adopted records.
    pub fn output(&mut self) -> &mut W {
        &mut self.out
    }

    /// Counts a record that already stands at the present place.
    pub fn adopt(&mut self, header: &Header) {
        self.scratch.clear();
        header.encode(&mut self.scratch);
        self.headers.update(&self.scratch);
        self.count(header);
    }

    /// Sequence number and stream offset of the next record.
    pub fn next_place(&self) -> (u64, u64) {
        (self.sequence, self.offset)
    }

    fn count(&mut self, header: &Header) {
        if matches!(header.kind, Kind::Mft | Kind::Chunk) {
            self.index.push(header);
            self.totals.raw_bytes += header.raw_len;
            self.totals.stored_bytes += header.stored_len;
            for (_, bytes, kind) in header.byte_runs() {
                match kind {
                    RunKind::Data => {}
                    RunKind::Zero => self.totals.zero_bytes += bytes,
                    RunKind::Unreadable => self.totals.unreadable_bytes += bytes,
                    RunKind::Skipped => self.totals.skipped_bytes += bytes,
                }
            }
        }
        self.sequence += 1;
        self.offset += header.stride();
    }
}

impl<W: Write> Writer<W> {
    /// Begins a stream with Head and Disk.
    pub fn create(out: W, id: ArchiveId, head: &Head, disk: &DiskInfo) -> Result<Self> {
        let json = |v: std::result::Result<Vec<u8>, serde_json::Error>| {
            v.map_err(|e| Error::damaged("Cannot write the archive head").caused_by(e))
        };
        let mut w = Self::take_up(
            out,
            id,
            json(serde_json::to_vec(head))?,
            json(serde_json::to_vec(disk))?,
        );
        // Nothing is written that a reader would refuse.
        Head::parse(&w.head)?;
        DiskInfo::parse(&w.disk)?;
        let mut packer = Packer::new(1)?;
        let (head, disk) = (w.head.clone(), w.disk.clone());
        w.append(packer.plain(Kind::Head, &head, false)?)?;
        w.append(packer.plain(Kind::Disk, &disk, false)?)?;
        Ok(w)
    }

    /// Fills up so that `behind` more bytes end at a boundary of the blocks
    /// given with [`Writer::set_block`].
    pub fn fill_up(&mut self, behind: u64) -> Result<()> {
        let over = (self.offset + behind) % self.align;
        if over == 0 {
            return Ok(());
        }
        let blocks = (self.align - over) / super::BLOCK as u64;
        let mut pad = Packer::new(1)?.plain(Kind::Pad, &[], false)?;
        // The record itself is one of them.
        pad.gap = u32::try_from(blocks - 1).map_err(|_| Error::usage("Blocks are too long"))?;
        self.append(pad)?;
        Ok(())
    }

    /// Appends a record; gives back its payload's buffer.
    pub fn append(&mut self, p: Packed) -> Result<Vec<u8>> {
        let header = Header {
            kind: p.kind,
            codec: p.codec,
            provenance: p.provenance,
            region: p.region,
            sequence: self.sequence,
            stream_offset: self.offset,
            raw_len: p.raw_len,
            stored_len: p.payload.len() as u64,
            position: p.position,
            id: self.id.0,
            digest: p.digest,
            unit: p.unit,
            cell: p.cell,
            gap: p.gap,
            longer: 0,
            extension: p.extension,
        };
        debug_assert!(p.codec == Codec::Zstd || header.raw_len == header.stored_len);
        self.put(&header, &p.payload)?;
        Ok(p.payload)
    }

    fn put(&mut self, header: &Header, payload: &[u8]) -> Result<()> {
        self.scratch.clear();
        header.encode(&mut self.scratch);
        self.headers.update(&self.scratch);
        let pad = (header.stride() - header.len() as u64 - header.stored_len) as usize;
        let r = if payload.len() < 64 << 10 {
            self.scratch.extend_from_slice(payload);
            self.scratch.resize(self.scratch.len() + pad, 0);
            self.out.write_all(&self.scratch)
        } else {
            self.out
                .write_all(&self.scratch)
                .and_then(|()| self.out.write_all(payload))
                .and_then(|()| self.out.write_all(&vec![0; pad]))
        };
        r.map_err(|e| failed(e, self.offset))?;
        self.count(header);
        Ok(())
    }

    /// Writes Index, Report, Index and Tail: the archive is complete. Returns
    /// the totals, the digest of the whole and the output.
    pub fn finish(mut self, report: &[u8]) -> Result<(Totals, [u8; 32], W)> {
        let mut packer = Packer::new(3)?;
        let index = self.index.encode(&self.head, &self.disk);
        let mut at = [0; 2];
        for (n, place) in at.iter_mut().enumerate() {
            *place = self.offset;
            self.append(packer.plain(Kind::Index, &index, true)?)?;
            if n == 0 {
                self.totals.report = self.offset;
                self.append(packer.plain(Kind::Report, report, true)?)?;
            }
        }
        self.fill_up(super::BLOCK as u64)?;
        self.totals.index = at;
        self.totals.records = self.sequence;
        let digest = *self.headers.finalize().as_bytes();
        let mut tail = packer.plain(Kind::Tail, &[], false)?;
        tail.digest = digest;
        tail.extension = self.totals.encode();
        self.append(tail)?;
        self.totals.end = self.offset;
        self.out.flush().map_err(|e| failed(e, self.offset))?;
        Ok((self.totals, digest, self.out))
    }
}

/// An output of this program tells itself what went wrong.
fn failed(e: io::Error, at: u64) -> Error {
    match e.downcast::<Error>() {
        Ok(own) => own,
        Err(e) => Error::io("Cannot write the archive", e).at(at),
    }
}
