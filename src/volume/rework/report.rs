//! What will have become of the volume, in numbers and sentences.

use super::Wish;
use super::boot::Shape;
use super::map::ClusterMap;
use super::special::Special;
use super::survey::Survey;
use crate::volume::finding::Finding;
use crate::volume::logfile::LogState;
use serde::{Deserialize, Serialize};

/// How the new layout was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// Every cluster keeps its place.
    InPlace,
    /// What lay behind the new end moved before it.
    Relocated,
    /// Everything was laid out anew, each stream in one run.
    Anew,
    /// Everything moved down, in the order in which it lay.
    Squeezed,
}

/// The plan of a change, for people and scripts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReworkReport {
    /// How the new layout was found.
    pub how: How,
    /// Bytes of the source.
    pub old_bytes: u64,
    /// Bytes of the new volume, with its backup boot sector.
    pub new_bytes: u64,
    /// Bytes of a cluster.
    pub cluster_size: u32,
    /// Clusters before.
    pub old_clusters: u64,
    /// Clusters after.
    pub new_clusters: u64,
    /// Clusters in use after.
    pub used_clusters: u64,
    /// Clusters in use that get another number.
    pub clusters_moved: u64,
    /// Clusters that cannot move, the boot area among them.
    pub clusters_pinned: u64,
    /// File records written differently.
    pub records_rewritten: u64,
    /// File records of which clusters moved.
    pub records_moved: u64,
    /// Records in use that are damaged; they stay as they are.
    pub records_damaged: u64,
    /// Streams that were to be in one run, but pinned clusters are in the way.
    pub streams_in_pieces: u64,
    /// Bytes written that are not copies of old ones.
    pub bytes_rewritten: u64,
    /// What is dropped, emptied, or will not be the same.
    pub changes: Vec<Finding>,
}

impl ReworkReport {
    pub(super) fn new(survey: &Survey, shape: Shape, how: How) -> Self {
        let g = survey.volume.geometry();
        Self {
            how,
            old_bytes: survey.volume.source().len(),
            new_bytes: shape.bytes,
            cluster_size: g.cluster_size,
            old_clusters: g.total_clusters,
            new_clusters: shape.clusters,
            used_clusters: 0,
            clusters_moved: 0,
            clusters_pinned: survey.pinned.count(),
            records_rewritten: 0,
            records_moved: 0,
            records_damaged: survey.damaged,
            streams_in_pieces: 0,
            bytes_rewritten: 0,
            changes: Vec::new(),
        }
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn tell(
        &mut self,
        survey: &Survey,
        wish: &Wish,
        shape: Shape,
        special: &Special,
        map: &ClusterMap,
        stores_dropped: bool,
        header_dropped: bool,
        touched: bool,
    ) {
        let g = survey.volume.geometry();
        let mut say = |code, message: String| self.changes.push(Finding::new(code, message));
        if touched {
            say(
                "log-emptied",
                match &survey.log {
                    LogState::Clean => "$LogFile is emptied".to_owned(),
                    LogState::Reset => "$LogFile stays empty".to_owned(),
                    LogState::NotClean => "$LogFile is emptied, though Windows had not yet finished with it; the volume is marked to be checked".to_owned(),
                    LogState::Unknown { .. } => "$LogFile is emptied, though its state cannot be told; the volume is marked to be checked".to_owned(),
                },
            );
        }
        if special.is_hibernated() {
            say(
                "hibernation-dropped",
                "The first page of hiberfil.sys is zeroed: the Windows that sleeps on this volume starts afresh, and what it had not yet written is lost".to_owned(),
            );
        }
        if stores_dropped && !survey.shadow.is_empty() {
            say(
                "shadow-storage-dropped",
                format!(
                    "{} files of shadow-copy storage are emptied: earlier versions kept on this volume, also those of other volumes, are lost",
                    survey.shadow.len()
                ),
            );
        }
        if touched && survey.shadow_kept > 0 {
            say(
                "shadow-storage-useless",
                format!(
                    "{} files of shadow-copy storage stay, with content that is of no use any more: several records hold them",
                    survey.shadow_kept
                ),
            );
        }
        if header_dropped {
            say(
                "shadow-header-dropped",
                "The volume's reference to its shadow copies (byte 0x1e00) is zeroed: it has none any more".to_owned(),
            );
        }
        let bad = survey.bad.count();
        if bad > 0 {
            say(
                "bad-clusters-forgotten",
                format!("{bad} clusters that the old disk had bad count as free"),
            );
        }
        if !map.is_still() || shape.sectors != g.total_sectors {
            say(
                "free-clusters-dropped",
                "Free clusters are not kept: deleted files cannot be recovered from the new volume"
                    .to_owned(),
            );
        }
        if touched && survey.mended > 0 {
            say(
                "records-mended",
                format!(
                    "Damaged file records that have a sound copy in $MFTMirr are written from it: {}",
                    survey.mended
                ),
            );
        }
        if touched && survey.called_free > 0 {
            say(
                "bitmap-mended",
                format!(
                    "{} clusters that file records in use name, and that $Bitmap called free, are in use in the new $Bitmap",
                    survey.called_free
                ),
            );
        }
        if self.records_damaged > 0 && !map.is_still() {
            say(
                "damaged-records",
                format!(
                    "Damaged file records stay as they are ({}), and so do the clusters that are in use and belong to no sound record",
                    self.records_damaged
                ),
            );
        }
        if self.streams_in_pieces > 0 {
            say(
                "in-pieces",
                format!(
                    "{} streams are not in one run, because of clusters that cannot move",
                    self.streams_in_pieces
                ),
            );
        }
        if wish.defragment && self.how != How::Anew {
            say(
                "not-defragmented",
                "The volume is not defragmented: in this size its records have no room for that layout".to_owned(),
            );
        }
        if shape.backups(u64::from(g.sector_size)).is_empty() {
            say(
                "no-backup-boot-sector",
                "There is no room for the backup boot sector behind the volume".to_owned(),
            );
        }
        if self.used_clusters == self.new_clusters {
            say(
                "full",
                "The new volume has no free cluster; Windows needs some to work with it".to_owned(),
            );
        }
    }
}
