//! The Report record: what was found while a backup was made.

use super::image::{ImagePlan, SkippedFile};
use crate::archive::Stillness;
use crate::units::ByteRange;
use crate::volume::Finding;
use crate::volume::health::Health;
use crate::volume::usage::UsageReport;
use serde::{Deserialize, Serialize};
use std::fmt;

/// JSON payload of Report.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Version of this shape.
    pub schema: u32,
    /// RFC 3339, UTC.
    pub started: String,
    /// RFC 3339, UTC.
    pub finished: String,
    /// `host`: who moved the data.
    pub mover: String,
    /// What was found in each region.
    pub regions: Vec<RegionReport>,
    /// What the source did not give.
    pub unreadable: Vec<UnreadableRange>,
    /// Digests of the whole source.
    pub hashes: Vec<HashValue>,
    /// What else is worth knowing.
    pub notes: Vec<String>,
    /// How the source was held still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stillness: Option<Stillness>,
}

/// What was found in one region.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RegionReport {
    /// Region.
    pub number: u16,
    /// NTFS: records, attributes, clusters, differences.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<UsageReport>,
    /// NTFS: state of the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// Fallbacks taken to open it.
    #[serde(default)]
    pub notes: Vec<Finding>,
    /// Files left out on request.
    #[serde(default)]
    pub skipped: Vec<SkippedFile>,
}

/// A digest of the whole source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HashValue {
    /// `sha256` or `md5`.
    pub algorithm: String,
    /// The digest.
    pub hex: String,
}

/// A stretch of the source that could not be read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UnreadableRange {
    /// Region it lies in.
    pub region: u16,
    /// Bytes of the source.
    pub range: ByteRange,
    /// Who owns it, by path.
    pub files: Vec<String>,
}

impl fmt::Display for UnreadableRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} bytes at {:#x} (partition {}) are unreadable: ",
            self.range.len(),
            self.range.start,
            self.region
        )?;
        match self.files.as_slice() {
            [] => f.write_str("no file owns them"),
            [one] => f.write_str(one),
            [one, rest @ ..] => write!(f, "{one} and {} more", rest.len()),
        }
    }
}

impl Report {
    /// The report of an `image` run.
    pub fn of_image(
        plan: &ImagePlan,
        started: String,
        hashes: Vec<HashValue>,
        unreadable: Vec<UnreadableRange>,
    ) -> Self {
        let regions = plan
            .regions
            .iter()
            .map(|r| RegionReport {
                number: r.region.number,
                usage: r.ntfs.as_ref().map(|n| n.usage.clone()),
                health: r.ntfs.as_ref().map(|n| n.health.clone()),
                notes: r
                    .ntfs
                    .as_ref()
                    .map_or_else(Vec::new, |n| n.volume.notes().to_vec()),
                skipped: r.ntfs.as_ref().map_or_else(Vec::new, |n| n.skipped.clone()),
            })
            .collect();
        Self {
            schema: 1,
            started,
            finished: super::now(),
            mover: "host".into(),
            regions,
            unreadable,
            hashes,
            notes: plan.notes.clone(),
            stillness: plan.stillness.clone(),
        }
    }
}
