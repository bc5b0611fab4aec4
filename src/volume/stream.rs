//! A stream's logical content: one attribute's value, wherever its bytes are.
//! Holes and what lies behind the valid length read as zeros, LZNT1 is
//! expanded, EFS content stays encrypted. Only the ranges that a read needs
//! are read from the source.

use super::attr::{AttrFlags, NonResident};
use super::boot::Geometry;
use super::file::{FileRecords, FileStream};
use super::lznt1;
use super::open::Volume;
use crate::device::SharedSource;
use crate::error::{Error, ErrorKind, Result};
use crate::units::{Extent, Place};
use std::sync::Mutex;

/// Largest compression unit that is expanded, bytes. NTFS makes them 64 KiB.
const MAX_UNIT: u64 = 1 << 20;
/// Bytes per read of a sequential copy.
const COPY_STEP: usize = 1 << 20;

/// A stream, opened. Shared by threads.
pub struct Stream {
    source: SharedSource,
    geometry: Geometry,
    body: Body,
    flags: AttrFlags,
    size: u64,
    allocated: u64,
    initialized: u64,
}

enum Body {
    Resident(Vec<u8>),
    Extents {
        /// By VCN, without overlaps; there may be gaps.
        extents: Vec<Extent>,
        /// Set when the content is LZNT1.
        packed: Option<Packed>,
    },
}

struct Packed {
    unit_clusters: u64,
    unit_bytes: u64,
    /// The unit that was expanded last.
    last: Mutex<(u64, Vec<u8>)>,
}

/// The sizes that stand in the first piece of a non-resident attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes of its clusters; without holes when compressed or sparse.
    pub allocated: u64,
    /// Bytes of the stream.
    pub size: u64,
    /// Bytes behind which it reads as zeros.
    pub initialized: u64,
    /// Clusters of a compression unit as a power of two; 0: none.
    pub compression_unit: u8,
}

impl From<&NonResident<'_>> for Sizes {
    fn from(n: &NonResident<'_>) -> Self {
        Self {
            allocated: n.compressed_total.unwrap_or(n.allocated),
            size: n.size,
            initialized: n.initialized,
            compression_unit: n.compression_unit,
        }
    }
}

/// A part of a stream's content, in order.
#[derive(Debug)]
pub enum Piece<'a> {
    /// These bytes.
    Data(&'a [u8]),
    /// This many zeros that no cluster holds.
    Zero(u64),
    /// This many bytes that cannot be read, and why.
    Unreadable(u64, Error),
}

/// Where a part of the content comes from.
enum Span {
    Zero(u64),
    Disk { at: u64, len: u64 },
    Unit { index: u64, len: u64 },
    Lost(u64, Error),
}

impl Stream {
    /// Opens the attribute of this type and name (UTF-16 little-endian bytes)
    /// of a file; `None` when it has none. Fails when the piece with the sizes
    /// is missing.
    pub fn open(
        volume: &Volume,
        file: &FileRecords,
        type_code: u32,
        name: &[u8],
    ) -> Result<Option<Self>> {
        let (source, geometry) = (volume.source().clone(), *volume.geometry());
        Ok(Some(match file.stream(type_code, name) {
            None => return Ok(None),
            Some(FileStream::Resident(a, value)) => {
                Self::resident(source, geometry, a.flags, value)
            }
            Some(FileStream::NonResident(joined)) => {
                let head = joined.header();
                if head.lowest_vcn.0 != 0 {
                    return Err(Error::damaged(format!(
                        "The first piece of attribute {type_code:#x} of file record {} is missing",
                        file.base().number()
                    ))
                    .at(file.base().offset()));
                }
                let (flags, sizes) = (joined.first.flags, Sizes::from(head));
                Self::non_resident(source, geometry, flags, sizes, joined.map.into_vec())?
            }
        }))
    }

    /// A stream whose bytes lie in a file record.
    pub fn resident(
        source: SharedSource,
        geometry: Geometry,
        flags: AttrFlags,
        value: &[u8],
    ) -> Self {
        let len = value.len() as u64;
        Self {
            source,
            geometry,
            body: Body::Resident(value.to_vec()),
            flags,
            size: len,
            allocated: 0,
            initialized: len,
        }
    }

    /// A stream whose bytes lie in clusters. The extents may come in any
    /// order; one that overlaps an earlier one is left out.
    pub fn non_resident(
        source: SharedSource,
        geometry: Geometry,
        flags: AttrFlags,
        sizes: Sizes,
        mut extents: Vec<Extent>,
    ) -> Result<Self> {
        extents.sort_by_key(|e| e.vcn);
        let mut end = 0;
        extents.retain(|e| {
            let fits = e.vcn.0 >= end;
            if fits {
                end = e.vcn.0.saturating_add(e.len.0);
            }
            fits
        });
        let packed = match flags.compressed() && sizes.compression_unit > 0 {
            true => Some(Packed::new(flags, &geometry, sizes.compression_unit)?),
            false => None,
        };
        if i64::try_from(sizes.size).is_err() {
            return Err(Error::damaged(format!(
                "Found a stream of {:#x} bytes, more than any volume holds",
                sizes.size
            )));
        }
        Ok(Self {
            source,
            geometry,
            body: Body::Extents { extents, packed },
            flags,
            size: sizes.size,
            allocated: sizes.allocated,
            initialized: sizes.initialized.min(sizes.size),
        })
    }

    /// Bytes of the content.
    pub fn len(&self) -> u64 {
        self.size
    }

    /// True when it holds no byte.
    pub fn is_empty(&self) -> bool {
        self.size == 0
    }

    /// Bytes of the clusters it has on the volume; 0 for a resident one.
    pub fn allocated(&self) -> u64 {
        self.allocated
    }

    /// Bytes behind which the content reads as zeros.
    pub fn initialized(&self) -> u64 {
        self.initialized
    }

    /// Compressed, sparse, encrypted.
    pub fn flags(&self) -> AttrFlags {
        self.flags
    }

    /// True when its bytes lie in the file record.
    pub fn is_resident(&self) -> bool {
        matches!(self.body, Body::Resident(_))
    }

    /// Where its clusters lie, by VCN; empty for a resident one.
    pub fn extents(&self) -> &[Extent] {
        match &self.body {
            Body::Resident(_) => &[],
            Body::Extents { extents, .. } => extents,
        }
    }

    /// Fills `buf` from `offset` on; returns how many bytes there were up to
    /// the end. Fails when a byte cannot be read.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let total = self.size.saturating_sub(offset).min(buf.len() as u64) as usize;
        let mut done = 0;
        while done < total {
            let at = offset + done as u64;
            let rest = &mut buf[done..total];
            if let Body::Resident(value) = &self.body {
                rest.copy_from_slice(&value[at as usize..at as usize + rest.len()]);
                return Ok(total);
            }
            done += self.fill(self.span(at), at, rest)?;
        }
        Ok(total)
    }

    /// The whole content, which must not be longer than `limit` bytes.
    pub fn read_all(&self, limit: u64) -> Result<Vec<u8>> {
        if self.size > limit {
            return Err(Error::damaged(format!(
                "Found a stream of {} bytes, expected at most {limit}",
                self.size
            )));
        }
        let mut out = vec![0; self.size as usize];
        self.read_at(0, &mut out)?;
        Ok(out)
    }

    /// Hands on the whole content in order. What cannot be read is handed on
    /// as such, down to a cluster; `take` may end the copy with an error.
    pub fn copy(&self, take: impl FnMut(Piece<'_>) -> Result<()>) -> Result<()> {
        self.copy_range(0, u64::MAX, take)
    }

    /// As [`Stream::copy`], but only `len` bytes from `offset` on.
    pub fn copy_range(
        &self,
        offset: u64,
        len: u64,
        mut take: impl FnMut(Piece<'_>) -> Result<()>,
    ) -> Result<()> {
        let end = offset.saturating_add(len).min(self.size);
        let mut at = offset.min(end);
        if let Body::Resident(value) = &self.body {
            let value = &value[at as usize..end as usize];
            return match value.is_empty() {
                true => Ok(()),
                false => take(Piece::Data(value)),
            };
        }
        let mut buf = Vec::new();
        while at < end {
            let left = end - at;
            at += match self.span(at) {
                Span::Zero(len) => {
                    take(Piece::Zero(len.min(left)))?;
                    len.min(left)
                }
                Span::Lost(len, e) => {
                    take(Piece::Unreadable(len.min(left), e))?;
                    len.min(left)
                }
                span @ (Span::Disk { len, .. } | Span::Unit { len, .. }) => {
                    let len = len.min(left).min(COPY_STEP as u64) as usize;
                    if buf.len() < len {
                        buf.resize(len, 0);
                    }
                    match self.fill(span, at, &mut buf[..len]) {
                        Ok(n) => {
                            take(Piece::Data(&buf[..n]))?;
                            n as u64
                        }
                        Err(_) => self.copy_slowly(at, len as u64, &mut take)?,
                    }
                }
            };
        }
        Ok(())
    }

    /// Cluster by cluster through a range with a bad place.
    fn copy_slowly(
        &self,
        from: u64,
        len: u64,
        take: &mut impl FnMut(Piece<'_>) -> Result<()>,
    ) -> Result<u64> {
        let step = match &self.body {
            Body::Extents {
                packed: Some(p), ..
            } => p.unit_bytes,
            _ => u64::from(self.geometry.cluster_size),
        };
        let mut buf = Vec::new();
        let mut at = from;
        while at < from + len {
            let n = (step - at % step).min(from + len - at);
            buf.resize(n as usize, 0);
            match self.read_at(at, &mut buf) {
                Ok(_) => take(Piece::Data(&buf))?,
                Err(e) => take(Piece::Unreadable(n, e))?,
            }
            at += n;
        }
        Ok(len)
    }

    /// Fills the start of `buf` from one span; how many bytes that were.
    fn fill(&self, span: Span, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let n = |len: u64| len.min(buf.len() as u64) as usize;
        match span {
            Span::Zero(len) => {
                let n = n(len);
                buf[..n].fill(0);
                Ok(n)
            }
            Span::Disk { at, len } => {
                let n = n(len);
                self.source.read_at(at, &mut buf[..n])?;
                Ok(n)
            }
            Span::Unit { index, len } => {
                let n = n(len);
                self.read_unit(index, offset, &mut buf[..n])?;
                Ok(n)
            }
            Span::Lost(_, e) => Err(e),
        }
    }

    /// What stands at `offset` (below the size), and how far it goes.
    fn span(&self, offset: u64) -> Span {
        let Body::Extents { extents, packed } = &self.body else {
            return Span::Zero(self.size - offset);
        };
        if offset >= self.initialized {
            return Span::Zero(self.size - offset);
        }
        let left = self.initialized - offset;
        if let Some(p) = packed {
            let index = offset / p.unit_bytes;
            return match self.hole_units(extents, p, index) {
                0 => Span::Unit {
                    index,
                    len: (p.unit_bytes - offset % p.unit_bytes).min(left),
                },
                n => {
                    let end = index.saturating_add(n).saturating_mul(p.unit_bytes);
                    Span::Zero((end - offset).min(left))
                }
            };
        }
        let cluster = u64::from(self.geometry.cluster_size);
        let vcn = offset / cluster;
        let i = extents.partition_point(|e| e.vcn.0 <= vcn);
        let found = i.checked_sub(1).map(|i| &extents[i]);
        match found.filter(|e| vcn - e.vcn.0 < e.len.0) {
            None => {
                let next = extents.get(i).map_or(u64::MAX, |e| e.vcn.0);
                let len = next.saturating_mul(cluster) - offset;
                Span::Lost(len.min(left), gap(vcn))
            }
            Some(e) => {
                let end = e.vcn.0.saturating_add(e.len.0).saturating_mul(cluster);
                let len = (end - offset).min(left);
                match self.disk_position(e, offset) {
                    Ok(None) => Span::Zero(len),
                    Ok(Some(at)) => Span::Disk { at, len },
                    Err(e) => Span::Lost(len, e),
                }
            }
        }
    }

    /// The byte on the volume of the stream's byte `offset`, which lies in
    /// `e`; `None` in a hole. The whole extent must lie on the volume.
    fn disk_position(&self, e: &Extent, offset: u64) -> Result<Option<u64>> {
        let Some(lcns) = e.lcns() else {
            return Ok(None);
        };
        let cluster = u64::from(self.geometry.cluster_size);
        let first = e.vcn.0.saturating_mul(cluster);
        if lcns.end > self.geometry.total_clusters {
            return Err(Error::damaged(format!(
                "A stream refers to clusters {} to {}, the volume has {}",
                lcns.start, lcns.end, self.geometry.total_clusters
            )));
        }
        Ok(lcns
            .start
            .checked_mul(cluster)
            .map(|at| at + (offset - first)))
    }

    /// How many whole units from `index` on have no cluster at all.
    fn hole_units(&self, extents: &[Extent], p: &Packed, index: u64) -> u64 {
        let start = index.saturating_mul(p.unit_clusters);
        let mut end = start;
        let i = extents.partition_point(|e| e.vcn.0.saturating_add(e.len.0) <= start);
        for e in &extents[i..] {
            if e.place != Place::Hole || e.vcn.0 > end {
                break;
            }
            end = e.vcn.0.saturating_add(e.len.0);
        }
        (end - start) / p.unit_clusters
    }

    /// Copies from a unit of a compressed stream, from the stream's byte `offset` on.
    fn read_unit(&self, index: u64, offset: u64, buf: &mut [u8]) -> Result<()> {
        let Body::Extents {
            extents,
            packed: Some(p),
        } = &self.body
        else {
            return Err(Error::damaged(
                "A stream that is not compressed has no units",
            ));
        };
        let within = (offset - index * p.unit_bytes) as usize;
        let mut last = match p.last.lock() {
            Ok(guard) => guard,
            Err(poisoned) => poisoned.into_inner(),
        };
        if last.0 != index || last.1.is_empty() {
            last.1.clear();
            let unit = self.expand_unit(extents, p, index)?;
            *last = (index, unit);
        }
        buf.copy_from_slice(&last.1[within..within + buf.len()]);
        Ok(())
    }

    fn expand_unit(&self, extents: &[Extent], p: &Packed, index: u64) -> Result<Vec<u8>> {
        let cluster = u64::from(self.geometry.cluster_size);
        let start = index * p.unit_clusters;
        let end = start + p.unit_clusters;
        let mut raw = Vec::with_capacity(p.unit_bytes as usize);
        let mut mapped = start;
        let i = extents.partition_point(|e| e.vcn.0.saturating_add(e.len.0) <= start);
        for e in extents[i..].iter().take_while(|e| e.vcn.0 < end) {
            let from = e.vcn.0.max(start);
            let to = e.vcn.0.saturating_add(e.len.0).min(end);
            if from > mapped {
                return Err(gap(mapped));
            }
            mapped = to;
            if let Some(at) = self.disk_position(e, from * cluster)? {
                let had = raw.len();
                raw.resize(had + ((to - from) * cluster) as usize, 0);
                self.source.read_at(at, &mut raw[had..])?;
            }
        }
        if mapped == start {
            return Err(gap(start));
        }
        let mut out = vec![0; p.unit_bytes as usize];
        match lznt1::Unit::of(raw.len() as u64 / cluster, p.unit_clusters) {
            lznt1::Unit::Hole => {}
            lznt1::Unit::Plain => out.copy_from_slice(&raw),
            lznt1::Unit::Packed { .. } => lznt1::decompress(&raw, &mut out).map_err(|e| {
                Error::damaged(format!("{}, unit {index} of the stream", e.message()))
            })?,
        }
        Ok(out)
    }
}

impl Packed {
    fn new(flags: AttrFlags, geometry: &Geometry, unit: u8) -> Result<Self> {
        let method = flags.0 & 0xff;
        if method != 1 {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("Found compression method {method}, only 1 (LZNT1) is known"),
            ));
        }
        let unit_clusters = 1u64.checked_shl(u32::from(unit)).unwrap_or(0);
        let unit_bytes = unit_clusters.saturating_mul(u64::from(geometry.cluster_size));
        if unit_clusters == 0 || unit_bytes > MAX_UNIT {
            return Err(Error::unsupported(format!(
                "Found a compression unit of 2^{unit} clusters of {} bytes, expected at most 1 MiB",
                geometry.cluster_size
            )));
        }
        Ok(Self {
            unit_clusters,
            unit_bytes,
            last: Mutex::new((0, Vec::new())),
        })
    }
}

fn gap(vcn: u64) -> Error {
    Error::damaged(format!(
        "Nothing says where cluster {vcn} of the stream lies"
    ))
}

#[cfg(test)]
mod tests;
