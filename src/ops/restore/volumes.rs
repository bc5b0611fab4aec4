//! The NTFS volumes of an archive: looked at once, planned as often as need be.

use super::views::Views;
use super::wishes::Smallest;
use crate::archive::{DiskInfo, RegionKind};
use crate::error::{Error, Result};
use crate::observe::Observer;
use crate::volume::Volume;
use crate::volume::rework::{self, Rework, ReworkReport, Survey, Wish};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A volume and what becomes of it.
#[derive(Clone, Debug, Serialize)]
pub struct VolumeRow {
    /// The partition.
    pub partition: u16,
    /// How small it can be.
    pub smallest: Smallest,
    /// Why it cannot be made smaller, where that is so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rigid: Option<String>,
    /// What becomes of it; none: it stays as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<ReworkReport>,
}

pub struct Volumes<'a> {
    disk: &'a DiskInfo,
    view: Arc<Views>,
    observer: &'a dyn Observer,
    surveys: BTreeMap<u16, std::result::Result<Survey, String>>,
    reports: BTreeMap<u16, ReworkReport>,
}

impl<'a> Volumes<'a> {
    pub fn new(disk: &'a DiskInfo, view: Arc<Views>, observer: &'a dyn Observer) -> Self {
        Self {
            disk,
            view,
            observer,
            surveys: BTreeMap::new(),
            reports: BTreeMap::new(),
        }
    }

    pub fn is_ntfs(&self, number: u16) -> bool {
        let r = self.disk.region(number);
        r.is_some_and(|r| r.kind == RegionKind::Ntfs)
    }

    fn survey(&mut self, number: u16) -> Result<&std::result::Result<Survey, String>> {
        if !self.surveys.contains_key(&number) {
            let source = self.view.partition(number).ok_or_else(|| {
                Error::not_found(format!("The archive has no partition {number}"))
            })?;
            let looked = Volume::open(source).and_then(|v| rework::survey(&v, self.observer));
            let looked = match looked {
                Err(e) if e.kind() == crate::error::ErrorKind::Interrupted => return Err(e),
                other => other.map_err(|e| e.to_string()),
            };
            self.surveys.insert(number, looked);
        }
        self.surveys
            .get(&number)
            .ok_or_else(|| Error::not_found("There is no such volume"))
    }

    /// How small a volume can be; as large as it is where nobody can tell.
    pub fn smallest(&mut self, number: u16) -> Result<Smallest> {
        let all = self.disk.region(number).map_or(0, |r| r.bytes);
        Ok(match self.survey(number)? {
            Ok(s) => Smallest {
                in_place: s.smallest_in_place(),
                relocated: s.smallest()?,
            },
            Err(_) => Smallest {
                in_place: all,
                relocated: all,
            },
        })
    }

    /// Length of an NTFS volume with the backup boot sector that its source
    /// ends before; none where it has one.
    pub fn lacks_backup(&self, number: u16) -> Result<Option<u64>> {
        let Some(source) = self.view.partition(number).filter(|_| self.is_ntfs(number)) else {
            return Ok(None);
        };
        let len = source.len();
        let Ok(volume) = Volume::open(source) else {
            return Ok(None);
        };
        let g = volume.geometry();
        let (end, sector) = (g.volume_bytes(), u64::from(g.sector_size));
        match len < end || len - end >= sector {
            true => Ok(None),
            false => Ok(end.checked_add(sector)),
        }
    }

    /// The same; none where that sector cannot be added.
    pub fn with_backup(&mut self, number: u16) -> Result<Option<u64>> {
        let Some(len) = self.lacks_backup(number)? else {
            return Ok(None);
        };
        let observer = self.observer;
        let Ok(survey) = self.survey(number)? else {
            return Ok(None);
        };
        let wish = Wish {
            new_bytes: Some(len),
            ..Wish::default()
        };
        match rework::plan(survey, &wish, observer) {
            Ok(_) => Ok(Some(len)),
            Err(e) if e.kind() == crate::error::ErrorKind::Interrupted => Err(e),
            Err(_) => Ok(None),
        }
    }

    /// True for a volume that stays as it is, whatever is wished.
    pub fn is_rigid(&mut self, number: u16) -> Result<bool> {
        Ok(self.survey(number)?.is_err())
    }

    /// What has to be done for a wish.
    pub fn plan(&mut self, number: u16, wish: &Wish) -> Result<Arc<Rework>> {
        let observer = self.observer;
        let rework = match self.survey(number)? {
            Ok(s) => {
                rework::plan(s, wish, observer).map_err(|e| e.of(format!("partition {number}")))?
            }
            Err(why) => {
                return Err(Error::unsupported(format!(
                    "Partition {number} cannot be changed: {why}"
                ))
                .hint("restore it as it is"));
            }
        };
        self.reports.insert(number, rework.report().clone());
        Ok(Arc::new(rework))
    }

    /// Everything that was found out.
    pub fn rows(&mut self) -> Result<Vec<VolumeRow>> {
        let numbers: Vec<u16> = self.surveys.keys().copied().collect();
        let mut out = Vec::new();
        for number in numbers {
            let smallest = self.smallest(number)?;
            let rigid = match self.survey(number)? {
                Ok(_) => None,
                Err(why) => Some(why.clone()),
            };
            out.push(VolumeRow {
                partition: number,
                smallest,
                rigid,
                change: self.reports.get(&number).cloned(),
            });
        }
        Ok(out)
    }
}
