//! The JSON payloads of Head and Disk.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Capabilities this version can read.
const KNOWN: [&str; 4] = ["zstd", GAP, UNVERIFIED, CHUNK_RUNS];

/// Capability: records may be followed by zeros up to a boundary.
pub const GAP: &str = "gap";
/// Capability: a Chunk may have no digest, since nobody saw its bytes yet.
pub const UNVERIFIED: &str = "unverified";
/// Capability: Index has the runs of Chunk records too.
pub const CHUNK_RUNS: &str = "chunk-runs";

/// Most regions a source may have.
const MAX_REGIONS: usize = 1024;

/// What a backup is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// Format version.
    pub format: u32,
    /// Name and version of the writing program.
    pub program: String,
    /// Capabilities a reader must have.
    pub requires: Vec<String>,
    /// Capabilities a reader may lack.
    #[serde(default)]
    pub optional: Vec<String>,
    /// Archive id in hex.
    pub id: String,
    /// Archive this one refers to.
    #[serde(default)]
    pub parent: Option<String>,
    /// RFC 3339, UTC.
    pub created: String,
    /// What was read.
    pub source: SourceInfo,
    /// What changes the content.
    pub options: Options,
    /// BLAKE3 in hex over what is kept.
    pub plan: String,
    /// How the source was held still; none when nothing was done for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stillness: Option<Stillness>,
}

/// How a source was held still.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stillness {
    /// How long nothing was written, in milliseconds; none when it was not waited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet_ms: Option<u64>,
    /// How long that was waited for, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waited_ms: Option<u64>,
    /// Writes seen before it was quiet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writes: Option<u64>,
    /// Writes between the last look and the end of the snapshot call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late_writes: Option<u64>,
    /// Where writes were counted, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counter: Option<String>,
    /// The snapshot that was read instead of the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotInfo>,
}

/// A snapshot that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotInfo {
    /// Who made it, as on the command line.
    pub provider: String,
    /// Its name, `ntbak-` and 16 hexadecimal digits.
    pub name: String,
    /// What its provider calls it.
    pub label: String,
    /// Where it was read: a path, or the address of a unit without its secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// When it was taken, RFC 3339, UTC.
    pub taken: String,
    /// NAA designator of its logical unit, hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub naa: Option<String>,
}

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceInfo {
    /// Path as it was given.
    pub path: String,
    /// `file` or `device`.
    pub kind: String,
    /// Length in bytes.
    pub bytes: u64,
    /// Logical sector size in bytes.
    pub sector_bytes: u32,
    /// Model of the device.
    #[serde(default)]
    pub model: Option<String>,
    /// Serial number of the device.
    #[serde(default)]
    pub serial: Option<String>,
}

/// Options that change what a backup holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Options {
    /// Files whose clusters are left out.
    #[serde(default)]
    pub skip: Vec<String>,
    /// Free clusters are kept too.
    #[serde(default)]
    pub all_clusters: bool,
    /// Imaged sector by sector, without looking at the file system.
    #[serde(default)]
    pub raw: bool,
    /// The source was mounted writable meanwhile.
    #[serde(default)]
    pub live: bool,
    /// Only this partition.
    #[serde(default)]
    pub partition: Option<u16>,
    /// Digests of the whole source that were asked for.
    #[serde(default)]
    pub hash: Vec<String>,
}

/// The partition table of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TableKind {
    /// A bare volume.
    None,
    /// Master boot record.
    Mbr,
    /// GUID partition table.
    Gpt,
}

/// How a region was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RegionKind {
    /// What lies outside all partitions.
    Outside,
    /// An NTFS volume: used clusters only.
    Ntfs,
    /// Anything else: every sector that is not zero.
    Raw,
}

/// One region of the source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Region {
    /// Partition number; 0 is outside all partitions.
    pub number: u16,
    /// First byte on the disk.
    pub start: u64,
    /// Length in bytes.
    pub bytes: u64,
    /// How it was read.
    pub kind: RegionKind,
    /// What was recognised in it.
    pub content: String,
    /// Partition name, if the table has one.
    #[serde(default)]
    pub name: Option<String>,
    /// Partition type as the table states it.
    #[serde(default, rename = "type")]
    pub type_code: Option<String>,
    /// NTFS: bytes of a cluster.
    #[serde(default)]
    pub cluster_bytes: Option<u32>,
    /// NTFS: bytes of a file record.
    #[serde(default)]
    pub record_bytes: Option<u32>,
    /// NTFS: serial number, hex.
    #[serde(default)]
    pub serial: Option<String>,
    /// NTFS: label.
    #[serde(default)]
    pub label: Option<String>,
    /// NTFS: version.
    #[serde(default)]
    pub version: Option<String>,
}

/// The regions of the source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DiskInfo {
    /// Length of the whole source in bytes.
    pub bytes: u64,
    /// Logical sector size in bytes.
    pub sector_bytes: u32,
    /// Bytes of a grid cell.
    pub cell_bytes: u32,
    /// Partition table.
    pub table: TableKind,
    /// Regions by number.
    pub regions: Vec<Region>,
}

impl Head {
    /// Reads the payload; refuses what this program cannot read, by name.
    pub fn parse(json: &[u8]) -> Result<Head> {
        let head: Head = serde_json::from_slice(json)
            .map_err(|e| Error::damaged("Head is not the JSON object it should be").caused_by(e))?;
        if head.format != 1 {
            return Err(Error::unsupported(format!(
                "Archive has format {}, this program reads 1",
                head.format
            ))
            .hint("use a newer ntbak"));
        }
        if let Some(name) = head.requires.iter().find(|r| !KNOWN.contains(&r.as_str())) {
            return Err(Error::unsupported(format!(
                "Archive needs the capability \"{name}\", which this program does not have"
            ))
            .hint("use a newer ntbak"));
        }
        Ok(head)
    }

    /// True when a reader needs this capability.
    pub fn needs(&self, capability: &str) -> bool {
        self.requires.iter().any(|r| r == capability)
    }

    /// Optional capabilities this program does not know.
    pub fn unknown_optional(&self) -> Vec<&str> {
        self.optional
            .iter()
            .map(String::as_str)
            .filter(|o| !KNOWN.contains(o))
            .collect()
    }
}

impl DiskInfo {
    /// Reads the payload and checks that the regions can be what they claim.
    pub fn parse(json: &[u8]) -> Result<DiskInfo> {
        let disk: DiskInfo = serde_json::from_slice(json)
            .map_err(|e| Error::damaged("Disk is not the JSON object it should be").caused_by(e))?;
        let s = disk.sector_bytes;
        if !s.is_power_of_two() || !(256..=65536).contains(&s) {
            return Err(Error::damaged(format!("Disk states sectors of {s} bytes")));
        }
        let c = disk.cell_bytes;
        if !c.is_power_of_two() || c < s || c > 32 << 20 {
            return Err(Error::damaged(format!(
                "Disk states grid cells of {c} bytes"
            )));
        }
        if disk.regions.len() > MAX_REGIONS {
            return Err(Error::damaged(format!(
                "Disk states {} regions, at most {MAX_REGIONS} are allowed",
                disk.regions.len()
            )));
        }
        let mut seen = std::collections::HashSet::new();
        for r in &disk.regions {
            let whole = r.start.is_multiple_of(s.into()) && r.bytes.is_multiple_of(s.into());
            let end = r.start.checked_add(r.bytes);
            let fits = whole && end.is_some_and(|e| e <= disk.bytes);
            if !fits || !seen.insert(r.number) {
                return Err(Error::damaged(format!(
                    "Disk states partition {} of {} bytes at {:#x}, which does not fit {} bytes in sectors of {s}",
                    r.number, r.bytes, r.start, disk.bytes
                )));
            }
        }
        Ok(disk)
    }

    /// The region with this number.
    pub fn region(&self, number: u16) -> Option<&Region> {
        self.regions.iter().find(|r| r.number == number)
    }

    /// Bytes of a grid cell for a source of this length: 1 MiB, more above 4 TiB.
    pub fn choose_cell(bytes: u64) -> u32 {
        let mut cell = 1 << 20;
        while bytes / u64::from(cell) > 1 << 22 && cell < 32 << 20 {
            cell *= 2;
        }
        cell
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_capabilities_are_named() {
        let mut head = Head {
            format: 1,
            program: "t".into(),
            requires: vec!["zstd".into()],
            optional: vec!["hologram".into()],
            id: String::new(),
            parent: None,
            created: String::new(),
            source: SourceInfo::default(),
            options: Options::default(),
            plan: String::new(),
            stillness: None,
        };
        let read = |h: &Head| Head::parse(&serde_json::to_vec(h).unwrap());
        assert_eq!(read(&head).unwrap().unknown_optional(), ["hologram"]);
        head.requires.push("quantum".into());
        assert!(read(&head).unwrap_err().message().contains("\"quantum\""));
        head.requires.pop();
        head.format = 2;
        assert!(read(&head).unwrap_err().message().contains("format 2"));
    }

    #[test]
    fn cells_grow_with_the_source() {
        assert_eq!(DiskInfo::choose_cell(1 << 30), 1 << 20);
        assert_eq!(DiskInfo::choose_cell(16 << 40), 4 << 20);
    }
}
