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
mod tests {
    use super::*;
    use crate::device::Source;
    use crate::units::{Clusters, Lcn, Vcn};
    use proptest::prelude::*;
    use std::sync::Arc;

    const C: usize = 512;

    struct Memory(Vec<u8>);
    impl Source for Memory {
        fn len(&self) -> u64 {
            self.0.len() as u64
        }
        fn sector_size(&self) -> u32 {
            512
        }
        fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
            let from = self.0.get(offset as usize..).unwrap_or_default();
            match from.get(..buf.len()) {
                Some(b) if !b.windows(4).any(|w| w == b"BAD!") => buf.copy_from_slice(b),
                _ => return Err(Error::new(ErrorKind::Unreadable, "bad sector").at(offset)),
            }
            Ok(())
        }
        fn name(&self) -> &str {
            "memory"
        }
    }

    fn geometry(clusters: u64) -> Geometry {
        Geometry {
            sector_size: 512,
            cluster_size: C as u32,
            record_size: 1024,
            index_record_size: 4096,
            total_sectors: clusters,
            total_clusters: clusters,
            mft_lcn: Lcn(4),
            mftmirr_lcn: Lcn(2),
            serial: 0,
        }
    }

    fn extent(vcn: u64, place: Place, len: u64) -> Extent {
        Extent {
            vcn: Vcn(vcn),
            place,
            len: Clusters(len),
        }
    }

    fn open(disk: Vec<u8>, flags: u16, size: u64, init: u64, unit: u8, e: Vec<Extent>) -> Stream {
        let clusters = (disk.len() / C) as u64;
        let sizes = Sizes {
            allocated: 0,
            size,
            initialized: init,
            compression_unit: unit,
        };
        Stream::non_resident(
            Arc::new(Memory(disk)),
            geometry(clusters),
            AttrFlags(flags),
            sizes,
            e,
        )
        .unwrap()
    }

    fn copied(s: &Stream) -> (Vec<u8>, u64) {
        let (mut out, mut lost) = (Vec::new(), 0);
        s.copy(|p| {
            match p {
                Piece::Data(b) => out.extend_from_slice(b),
                Piece::Zero(n) => out.resize(out.len() + n as usize, 0),
                Piece::Unreadable(n, _) => {
                    lost += n;
                    out.resize(out.len() + n as usize, 0xee);
                }
            }
            Ok(())
        })
        .unwrap();
        (out, lost)
    }

    #[test]
    fn a_bad_cluster_costs_only_itself() {
        let mut disk = vec![7u8; 8 * C];
        disk[3 * C..3 * C + 4].copy_from_slice(b"BAD!");
        let s = open(
            disk,
            0,
            6 * C as u64 - 10,
            u64::MAX,
            0,
            vec![extent(0, Place::At(Lcn(1)), 6)],
        );
        let (out, lost) = copied(&s);
        assert_eq!((out.len(), lost), (6 * C - 10, C as u64));
        assert!(out[2 * C..3 * C].iter().all(|&b| b == 0xee));
        assert!(s.read_at(2 * C as u64, &mut [0; 600]).is_err());
        assert_eq!(s.read_at(3 * C as u64, &mut [0; 600]).unwrap(), 600);
    }

    #[test]
    fn gaps_and_places_outside_the_volume_are_lost() {
        let e = vec![
            extent(1, Place::At(Lcn(1)), 1),
            extent(2, Place::At(Lcn(u64::MAX >> 2)), 1 << 40),
            extent(2, Place::At(Lcn(1)), 1),
        ];
        let s = open(vec![1; 4 * C], 0, 1 << 50, 1 << 50, 0, e);
        let mut pieces = Vec::new();
        s.copy(|p| {
            pieces.push(match p {
                Piece::Data(b) => (0, b.len() as u64),
                Piece::Zero(n) => (1, n),
                Piece::Unreadable(n, _) => (2, n),
            });
            Ok(())
        })
        .unwrap();
        let c = C as u64;
        let rest = (1 << 50) - (2 + (1 << 40)) * c;
        assert_eq!(pieces, [(2, c), (0, c), (2, c << 40), (2, rest)]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        /// Units of 4 clusters that are plain, packed, or holes, cut into runs
        /// anywhere and laid on the disk in any order.
        #[test]
        fn reads_what_was_written(
            units in prop::collection::vec((0u8..3, any::<u8>()), 1..8),
            compressed in any::<bool>(), cut in 1u64..4, back in any::<bool>(),
            tail in 0u64..2048, invalid in 0u64..4096,
            reads in prop::collection::vec((0u64..20_000, 0usize..5000), 1..6),
        ) {
            let unit = 4 * C;
            let mut disk = vec![0xaa; 64 * C];
            let (mut want, mut extents, mut vcn) = (Vec::new(), Vec::new(), 0u64);
            let mut free: Vec<u64> = (8..64).collect();
            if back { free.reverse(); }
            let mut free = free.into_iter();
            for (kind, seed) in units {
                let mut data = vec![0u8; unit];
                let mut stored = 0;
                match kind {
                    0 => {}
                    1 => data.iter_mut().enumerate().for_each(|(i, b)| {
                        *b = (i as u32).wrapping_mul(2_654_435_761).wrapping_add(u32::from(seed)).to_be_bytes()[1]
                    }),
                    _ => data.fill(seed),
                }
                if kind > 0 {
                    let mut raw = data.clone();
                    if kind == 2 && compressed {
                        raw = lznt1::compress(&data);
                        raw.resize(raw.len().next_multiple_of(C), 0x55);
                    }
                    let mut left = &raw[..];
                    while !left.is_empty() {
                        // `cut` clusters to a run at most, each placed anywhere.
                        for _ in 0..cut.min((left.len() / C) as u64) {
                            let lcn = free.next().unwrap();
                            disk[lcn as usize * C..][..C].copy_from_slice(&left[..C]);
                            left = &left[C..];
                            extents.push(extent(vcn + stored, Place::At(Lcn(lcn)), 1));
                            stored += 1;
                        }
                    }
                }
                if stored < 4 {
                    extents.push(extent(vcn + stored, Place::Hole, 4 - stored));
                }
                vcn += 4;
                want.extend(data);
            }
            want.truncate(want.len() - tail as usize);
            let size = want.len() as u64;
            let init = size.saturating_sub(invalid);
            want[init as usize..].fill(0);
            extents.reverse();
            let flags = if compressed { 1 } else { 0x8000 };
            let s = open(disk, flags, size, init, 2, extents);
            prop_assert_eq!(copied(&s), (want.clone(), 0));
            for (at, len) in reads {
                let mut buf = vec![1; len];
                let n = s.read_at(at, &mut buf).unwrap();
                let end = want.len().min(at as usize + len);
                prop_assert_eq!(&buf[..n], want.get(at as usize..end).unwrap_or_default());
            }
        }

        #[test]
        fn any_extents_end_without_panic(
            list in prop::collection::vec((any::<u64>(), any::<u64>(), any::<u64>(), 0u32..64), 0..8),
            flags in prop_oneof![Just(1u16), any::<u16>()], unit in 0u8..12,
            size in any::<u64>(), at in any::<u64>(),
        ) {
            let extents = list.into_iter().map(|(v, l, n, s)| {
                let place = if l & 1 == 0 { Place::Hole } else { Place::At(Lcn((l >> s) & (i64::MAX as u64))) };
                extent((v >> s) & (i64::MAX as u64 >> 1), place, ((n >> s) & (i64::MAX as u64 >> 1)).max(1))
            }).collect();
            let sizes = Sizes { allocated: 0, size, initialized: size, compression_unit: unit };
            let source = Arc::new(Memory(vec![3; 16 * C]));
            if let Ok(s) = Stream::non_resident(source, geometry(16), AttrFlags(flags), sizes, extents) {
                for at in [at, at % (20 * C as u64), size / 2] {
                    let _ = s.read_at(at, &mut [0; 700]);
                }
                let mut n = 0;
                let _ = s.copy(|_| {
                    n += 1;
                    if n > 100 { Err(Error::interrupted()) } else { Ok(()) }
                });
            }
        }
    }
}
