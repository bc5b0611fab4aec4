//! What will be read and kept: a value that can be printed before anything is
//! done.

use super::jobs::{Jobs, Kept};
use super::keep::Keep;
use crate::archive::{
    ArchiveId, DiskInfo, Head, NO_REGION, Options, Region, RegionKind, RunKind, SourceInfo,
    Stillness, TableKind,
};
use crate::device::{
    BadMap, Identity, RescueOptions, RescueSource, SharedSource, SourceKind, Window,
};
use crate::disk::{TableKind as Table, open_layout};
use crate::error::{Error, ErrorKind, Result};
use crate::observe::{CancelFlag, Observer};
use crate::ops::files::{files_behind, skip_clusters};
use crate::ops::report::UnreadableRange;
use crate::ops::still::Pulse;
use crate::units::{ByteRange, ClusterSet};
use crate::volume::health::{Health, health};
use crate::volume::usage::UsageReport;
use crate::volume::{Volume, used};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;

/// Files whose clusters may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Skip {
    /// `\pagefile.sys`.
    Pagefile,
    /// `\hiberfil.sys`.
    Hiberfil,
    /// `\swapfile.sys`.
    Swapfile,
    /// Shadow copy storage in `\System Volume Information`.
    Vss,
}

impl Skip {
    /// By its name on the command line.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Pagefile, Self::Hiberfil, Self::Swapfile, Self::Vss]
            .into_iter()
            .find(|s| s.name() == name)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pagefile => "pagefile",
            Self::Hiberfil => "hiberfil",
            Self::Swapfile => "swapfile",
            Self::Vss => "vss",
        }
    }
}

/// What to keep.
#[derive(Clone, Default)]
pub struct PlanOptions {
    /// Only this partition.
    pub partition: Option<u16>,
    /// Left out.
    pub skip: Vec<Skip>,
    /// Keep free clusters too.
    pub all_clusters: bool,
    /// Do not look at file systems: every sector.
    pub raw: bool,
    /// Mounted writable meanwhile.
    pub live: bool,
    /// Names of the digests that will be asked for.
    pub hash: Vec<String>,
    /// How hard to try unreadable sectors.
    pub rescue: RescueOptions,
    /// Looked at between attempts at a bad sector, which may take minutes.
    pub cancel: Option<Arc<CancelFlag>>,
}

/// A file that is left out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SkippedFile {
    /// Its path.
    pub path: String,
    /// Bytes left out.
    pub bytes: u64,
}

/// What was learned about an NTFS region.
pub struct NtfsPlan {
    /// The volume.
    pub volume: Volume,
    /// Records, attributes, clusters.
    pub usage: UsageReport,
    /// Its state.
    pub health: Health,
    /// Left out.
    pub skipped: Vec<SkippedFile>,
}

/// A region and what is kept of it.
pub struct RegionPlan {
    /// The region.
    pub region: Region,
    /// What is kept.
    pub keep: Keep,
    /// NTFS.
    pub ntfs: Option<NtfsPlan>,
}

/// The whole plan.
pub struct ImagePlan {
    /// What is read.
    pub source: SourceInfo,
    /// Its regions, for the archive.
    pub disk: DiskInfo,
    /// Its regions, with what is kept.
    pub regions: Vec<RegionPlan>,
    /// Options that change the content.
    pub options: Options,
    /// Digest over what is kept, hex.
    pub digest: String,
    /// What else is worth knowing.
    pub notes: Vec<String>,
    /// Reads it, whatever the medium does.
    pub reader: Arc<RescueSource>,
    /// How it is held still; whoever did that sets it.
    pub stillness: Option<Stillness>,
    /// Looks whether the snapshot that is read is still good; set by whoever took it.
    pub pulse: Option<Pulse>,
    gaps: Vec<ByteRange>,
}

/// Makes the plan: finds the partitions, reads the file records of each NTFS
/// volume, and decides what is kept.
pub fn plan(
    source: SharedSource,
    identity: &Identity,
    options: &PlanOptions,
    observer: &dyn Observer,
) -> Result<ImagePlan> {
    let mut reader = RescueSource::new(source.clone(), options.rescue, Arc::new(BadMap::new()));
    if let Some(cancel) = &options.cancel {
        reader = reader.with_cancel(cancel.clone());
    }
    let reader = Arc::new(reader);
    let shared: SharedSource = reader.clone();
    let layout = open_layout(&*shared)?;
    let mut notes: Vec<String> = layout.notes.iter().map(|n| n.message.clone()).collect();
    let sector = layout.sector_size;
    let odd = source.len() % u64::from(sector);
    if odd != 0 {
        return Err(Error::refused(format!(
            "The source has {} bytes, {odd} more than a whole number of sectors of {sector}",
            source.len()
        ))
        .of(source.name())
        .hint("a disk image was cut off, or has other sectors (--sector-size); fill up a copy of it with zeros"));
    }
    let mut regions = Vec::new();
    let mut gaps = Vec::new();
    if layout.table != Table::None && options.partition.is_none() {
        gaps.clone_from(&layout.gaps);
        regions.push(RegionPlan {
            region: Region {
                number: 0,
                start: 0,
                bytes: source.len(),
                kind: RegionKind::Outside,
                content: "outside partitions".into(),
                name: None,
                type_code: None,
                cluster_bytes: None,
                record_bytes: None,
                serial: None,
                label: None,
                version: None,
            },
            keep: Keep::everything(gaps.iter().map(ByteRange::len).sum()),
            ntfs: None,
        });
    }
    for p in &layout.partitions {
        let number = u16::try_from(p.number)
            .ok()
            .filter(|&n| n != 0 && n != NO_REGION);
        let number = number.ok_or_else(|| {
            Error::unsupported(format!("Partition number {} is out of range", p.number))
        })?;
        if options.partition.is_some_and(|n| n != number) {
            continue;
        }
        if p.length == 0 && layout.table != Table::None {
            // The layout notes why: it lies behind the end of the source.
            continue;
        }
        let mut region = Region {
            number,
            start: p.start,
            bytes: p.length,
            kind: RegionKind::Raw,
            content: p.content.name().into(),
            name: p.name.clone(),
            type_code: p.kind.id(),
            cluster_bytes: None,
            record_bytes: None,
            serial: None,
            label: None,
            version: None,
        };
        let bare = layout.table == Table::None || options.partition.is_some();
        if options.raw || (!p.content.is_ntfs() && !bare) {
            let keep = Keep::everything(p.length);
            regions.push(RegionPlan {
                region,
                keep,
                ntfs: None,
            });
            continue;
        }
        if !p.content.is_ntfs() {
            return Err(
                Error::refused(format!("This is {}, not NTFS", p.content.name()))
                    .of(source.name())
                    .at(p.start)
                    .hint(p.content.way_out()),
            );
        }
        let name = match layout.table {
            Table::None => source.name().to_string(),
            _ => format!("{} partition {}", source.name(), p.number),
        };
        let window: SharedSource = Arc::new(Window::new(shared.clone(), p.start, p.length, name)?);
        match ntfs(window, &mut region, options, observer) {
            Ok((keep, ntfs)) => regions.push(RegionPlan {
                region,
                keep,
                ntfs: Some(ntfs),
            }),
            // A partition that cannot be read as NTFS must not stop the others.
            Err(e) if !bare => {
                notes.push(format!(
                    "Partition {} is kept sector by sector, since it cannot be read as NTFS: {e}",
                    p.number
                ));
                observer.warn(crate::observe::warning(
                    "not-readable-as-ntfs",
                    notes.last().cloned().unwrap_or_default(),
                ));
                let keep = Keep::everything(p.length);
                regions.push(RegionPlan {
                    region,
                    keep,
                    ntfs: None,
                });
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => return Err(e),
            Err(e) => {
                return Err(e.hint("--raw images it sector by sector, whatever is in it"));
            }
        }
    }
    if regions.is_empty() {
        let have: Vec<String> = layout
            .partitions
            .iter()
            .map(|p| p.number.to_string())
            .collect();
        return Err(Error::not_found(match options.partition {
            Some(n) => format!("There is no partition {n}"),
            None => "There is nothing to image".into(),
        })
        .of(source.name())
        .hint(format!("the partitions are: {}", have.join(", "))));
    }
    let disk = DiskInfo {
        bytes: source.len(),
        sector_bytes: sector,
        cell_bytes: DiskInfo::choose_cell(source.len()),
        table: match layout.table {
            Table::None => TableKind::None,
            Table::Mbr => TableKind::Mbr,
            Table::Gpt => TableKind::Gpt,
        },
        regions: regions.iter().map(|r| r.region.clone()).collect(),
    };
    let mut hasher = blake3::Hasher::new();
    regions.iter().for_each(|r| r.keep.digest(&mut hasher));
    Ok(ImagePlan {
        source: SourceInfo {
            path: identity.path.clone(),
            kind: match identity.kind {
                SourceKind::File => "file".into(),
                _ => "device".into(),
            },
            bytes: source.len(),
            sector_bytes: sector,
            model: identity.model.clone(),
            serial: identity.serial.clone(),
        },
        disk,
        regions,
        options: Options {
            skip: options.skip.iter().map(|s| s.name().into()).collect(),
            all_clusters: options.all_clusters,
            raw: options.raw,
            live: options.live,
            partition: options.partition,
            hash: options.hash.clone(),
        },
        digest: hasher.finalize().to_hex().to_string(),
        notes,
        reader,
        stillness: None,
        pulse: None,
        gaps,
    })
}

/// Opens the volume and decides what of it is kept.
fn ntfs(
    window: SharedSource,
    region: &mut Region,
    options: &PlanOptions,
    observer: &dyn Observer,
) -> Result<(Keep, NtfsPlan)> {
    let len = window.len();
    let volume = Volume::open(window)?;
    let g = *volume.geometry();
    region.kind = RegionKind::Ntfs;
    region.cluster_bytes = Some(g.cluster_size);
    region.record_bytes = Some(g.record_size);
    region.serial = Some(format!("{:016X}", g.serial));
    if let Some(info) = volume.info() {
        region.label = Some(info.label.clone()).filter(|l| !l.is_empty());
        region.version = Some(format!("{}.{}", info.version.0, info.version.1));
    }
    let usage = used::analyse(&volume, observer)?;
    let health = health(&volume);
    let limit = usage.kept.limit();
    let (mut skip, mut skipped) = match options.skip.as_slice() {
        [] => (ClusterSet::new(limit), Vec::new()),
        list => skip_clusters(&volume, &usage, list)?,
    };
    // NTFS knows these to be bad and never uses them: reading them would only
    // cost time, unless somebody wants every sector.
    let bad = usage.bad_clusters.count();
    if bad > 0 && !options.all_clusters {
        skip.union(&usage.bad_clusters);
        let bytes = bad * u64::from(g.cluster_size);
        skipped.push(SkippedFile {
            path: "/$BadClus:$Bad".into(),
            bytes,
        });
    }
    let mut wanted = usage.kept;
    if options.all_clusters {
        wanted.insert(0..limit);
    }
    let mft = volume
        .mft()
        .extents
        .as_slice()
        .iter()
        .filter_map(|e| e.lcns());
    let keep = Keep::clusters(
        len,
        g.cluster_size,
        wanted,
        skip,
        mft.map(|r| (r.start, r.end - r.start)),
    );
    Ok((
        keep,
        NtfsPlan {
            volume,
            usage: usage.report,
            health,
            skipped,
        },
    ))
}

impl ImagePlan {
    /// What goes on with an interrupted run.
    pub fn goes_on(&self) -> &'static str {
        match self.stillness.as_ref().and_then(|s| s.snapshot.as_ref()) {
            None => "image --resume goes on with it",
            Some(s) if s.place.is_none() => {
                "it is of a snapshot and cannot be gone on with: begin again"
            }
            Some(_) => {
                "image --resume goes on with it only while its snapshot is kept (--keep-snapshot) and named as the source"
            }
        }
    }

    /// The jobs that make the stream; `every` adds those that keep nothing.
    pub(in crate::ops) fn jobs(&self, every: bool) -> Jobs<'_> {
        let kept = self
            .regions
            .iter()
            .map(|r| Kept {
                region: &r.region,
                keep: &r.keep,
                record_bytes: r.region.record_bytes.map_or(0, u64::from),
            })
            .collect();
        Jobs::new(kept, &self.gaps, u64::from(self.disk.cell_bytes), every)
    }

    /// Fails when the snapshot that is read is worth nothing any more; `now`, or now
    /// and then.
    pub(super) fn check_still(&self, now: bool) -> Result<()> {
        self.pulse.as_ref().map_or(Ok(()), |p| p.beat(now))
    }

    /// Bytes that will be read; with `every`, all of the source.
    pub fn bytes_to_read(&self, every: bool) -> u64 {
        let kept: u64 = self.regions.iter().map(|r| r.keep.data_bytes()).sum();
        if !every {
            return kept;
        }
        let mft: u64 = self.regions.iter().map(|r| r.keep.mft_bytes()).sum();
        let gaps: u64 = self.gaps.iter().map(ByteRange::len).sum();
        let parts: u64 = self
            .regions
            .iter()
            .filter(|r| r.region.number != 0)
            .map(|r| r.region.bytes)
            .sum();
        gaps + parts + mft
    }

    /// Most bytes of a tape block with which what this machine writes, whole
    /// blocks of file records and index, stays little beside what it has to
    /// read: a power of two from 4096 to 262,144.
    pub fn tape_block(&self) -> u64 {
        let metadata: u64 = self
            .regions
            .iter()
            .map(|r| {
                let bitmap = r
                    .ntfs
                    .as_ref()
                    .map(|n| n.volume.geometry().total_clusters / 8);
                r.keep.mft_bytes() + bitmap.unwrap_or(0)
            })
            .sum();
        let share = (metadata + self.bytes_to_read(false) / 1000) / 4;
        let mut t = 262_144;
        while t > 4096 && t > share {
            t /= 2;
        }
        t
    }

    /// The bytes of the source that are kept, in no particular order.
    pub fn kept_ranges(&self) -> Vec<ByteRange> {
        self.jobs(false)
            .flat_map(|job| {
                let base = self.regions[job.region].region.start;
                job.pieces
                    .into_iter()
                    .filter(|p| p.kind == RunKind::Data)
                    .map(move |p| ByteRange {
                        start: base + p.start,
                        end: base + p.start + p.len,
                    })
            })
            .collect()
    }

    /// The Head of an archive made of this plan.
    pub fn head(&self, id: ArchiveId) -> Head {
        Head {
            format: 1,
            program: format!("ntbak {}", env!("CARGO_PKG_VERSION")),
            requires: vec!["zstd".into()],
            optional: Vec::new(),
            id: id.hex(),
            parent: None,
            created: crate::ops::now(),
            source: self.source.clone(),
            options: self.options.clone(),
            plan: self.digest.clone(),
            stillness: self.stillness.clone(),
        }
    }

    /// What the source did not give, with the files that were hit.
    pub(super) fn unreadable(&self, observer: &dyn Observer) -> Vec<UnreadableRange> {
        let bad = self.reader.map().ranges();
        let mut out = Vec::new();
        for r in &self.regions {
            let whole = ByteRange {
                start: r.region.start,
                end: r.region.start + r.region.bytes,
            };
            let mine: Vec<ByteRange> = match r.region.number {
                0 => self
                    .gaps
                    .iter()
                    .flat_map(|g| bad.iter().filter_map(|b| b.intersect(g)))
                    .collect(),
                _ => bad.iter().filter_map(|b| b.intersect(&whole)).collect(),
            };
            if mine.is_empty() {
                continue;
            }
            let inside: Vec<ByteRange> = mine
                .iter()
                .map(|b| ByteRange {
                    start: b.start - whole.start,
                    end: b.end - whole.start,
                })
                .collect();
            let files = match &r.ntfs {
                Some(n) => files_behind(&n.volume, &inside, observer),
                None => vec![Vec::new(); inside.len()],
            };
            out.extend(
                mine.into_iter()
                    .zip(files)
                    .map(|(range, files)| UnreadableRange {
                        region: r.region.number,
                        range,
                        files,
                    }),
            );
        }
        out
    }

    /// Writes a ddrescue map of what was read.
    pub(super) fn write_map(&self, path: &Path) -> Result<()> {
        let text = self
            .reader
            .map()
            .to_map(self.source.bytes)
            .to_text(&["made by ntbak image"]);
        std::fs::write(path, text)
            .map_err(|e| Error::io("Cannot write the map", e).of(path.display().to_string()))
    }
}
