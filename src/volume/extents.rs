//! Raw clusters: which byte of the source a byte of a stream is, and reading it.
//! What this knows nothing of: sizes, compression, valid lengths.

use super::boot::Geometry;
use crate::device::SharedSource;
use crate::error::{Error, ErrorKind, Result};
use crate::units::{Extent, Lcn, Place, Vcn};

/// The extents of one stream by VCN, without overlaps; there may be gaps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtentMap(Vec<Extent>);

impl ExtentMap {
    /// Sorts the extents; one that overlaps an earlier one is left out.
    pub fn new(mut extents: Vec<Extent>) -> Self {
        extents.sort_by_key(|e| e.vcn);
        let mut end = 0;
        extents.retain(|e| {
            let fits = e.vcn.0 >= end;
            if fits {
                end = e.vcn.0.saturating_add(e.len.0);
            }
            fits
        });
        Self(extents)
    }

    /// The extents, in order.
    pub fn as_slice(&self) -> &[Extent] {
        &self.0
    }

    /// The extents, in order.
    pub fn into_vec(self) -> Vec<Extent> {
        self.0
    }

    /// VCN behind the last extent.
    pub fn end(&self) -> Vcn {
        Vcn(self.0.last().map_or(0, |e| e.vcn.0.saturating_add(e.len.0)))
    }

    /// Clusters on the volume, holes left out.
    pub fn real_clusters(&self) -> u64 {
        let real = self.0.iter().filter(|e| e.place != Place::Hole);
        real.fold(0, |n, e| n.saturating_add(e.len.0))
    }

    /// The extent that holds a VCN.
    pub fn find(&self, vcn: Vcn) -> Option<&Extent> {
        let i = self.0.partition_point(|e| e.vcn <= vcn).checked_sub(1)?;
        let e = &self.0[i];
        (vcn.0 - e.vcn.0 < e.len.0).then_some(e)
    }
}

/// A source with the geometry of the volume on it.
#[derive(Clone)]
pub(crate) struct Medium {
    pub source: SharedSource,
    pub geometry: Geometry,
}

/// Where a part of a stream is on the source.
pub(crate) enum Spot {
    Byte(u64),
    Hole,
}

impl Medium {
    /// Reads bytes of the source; what lies behind its end is unreadable.
    pub fn read(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        match offset.checked_add(buf.len() as u64) {
            Some(end) if end <= self.source.len() => self.source.read_at(offset, buf),
            _ => Err(Error::new(
                ErrorKind::Unreadable,
                format!(
                    "{} bytes lie behind the end of the source ({} bytes)",
                    buf.len(),
                    self.source.len()
                ),
            )
            .of(self.source.name())
            .at(offset)),
        }
    }

    /// Bytes of the source as memory, if it gives them so.
    pub fn memory(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let from = usize::try_from(offset).ok()?;
        self.source.as_memory()?.get(from..from.checked_add(len)?)
    }

    /// The part of a stream that begins at byte `offset`: where it is and how
    /// many bytes follow there, at most `want`.
    pub fn spot(&self, map: &ExtentMap, offset: u64, want: u64) -> Result<(Spot, u64)> {
        let cluster = u64::from(self.geometry.cluster_size);
        let vcn = offset / cluster;
        let Some(e) = map.find(Vcn(vcn)) else {
            return Err(Error::damaged(format!(
                "Found no run for VCN {vcn}, expected one (the stream is mapped up to VCN {})",
                map.end()
            )));
        };
        let (ahead, within) = (vcn - e.vcn.0, offset % cluster);
        let left = (e.len.0 - ahead).saturating_mul(cluster) - within;
        let here = want.min(left);
        let Place::At(lcn) = e.place else {
            return Ok((Spot::Hole, here));
        };
        let lcn = Lcn(lcn.0 + ahead);
        match self.geometry.cluster_offset(lcn) {
            Some(at) => Ok((Spot::Byte(at + within), here)),
            None => Err(Error::damaged(format!(
                "Found a run at cluster {lcn}, expected one below {}",
                self.geometry.total_clusters
            ))),
        }
    }

    /// Reads bytes of a stream; holes are zeros.
    pub fn read_map(&self, map: &ExtentMap, mut offset: u64, mut buf: &mut [u8]) -> Result<()> {
        while !buf.is_empty() {
            let (spot, len) = self.spot(map, offset, buf.len() as u64)?;
            let (now, later) = buf.split_at_mut(len as usize);
            match spot {
                Spot::Byte(at) => self.read(at, now)?,
                Spot::Hole => now.fill(0),
            }
            offset += len;
            buf = later;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Clusters;

    fn run(vcn: u64, lcn: u64, len: u64) -> Extent {
        Extent {
            vcn: Vcn(vcn),
            place: Place::At(Lcn(lcn)),
            len: Clusters(len),
        }
    }

    #[test]
    fn finds_in_order_with_gaps_and_without_overlaps() {
        let m = ExtentMap::new(vec![run(10, 50, 5), run(0, 7, 4), run(2, 99, 5)]);
        assert_eq!(m.as_slice(), [run(0, 7, 4), run(10, 50, 5)]);
        assert_eq!(m.find(Vcn(3)), Some(&run(0, 7, 4)));
        assert_eq!(m.find(Vcn(4)), None);
        assert_eq!(m.find(Vcn(14)), Some(&run(10, 50, 5)));
        assert_eq!(m.find(Vcn(15)), None);
        assert_eq!((m.end(), m.real_clusters()), (Vcn(15), 9));
    }
}
