//! What somebody who backs up a volume should know about its state.

use super::super::text::{count, safe};
use super::Facts;
use super::text::mirror;
use crate::volume::health::{BackupBoot, Hibernation, MftMirror};
use crate::volume::logfile::LogState;

impl Facts<'_> {
    /// Copies for emergencies that are not as they should be. The volume itself
    /// works without them.
    pub fn remarks(&self) -> Vec<String> {
        let mut out = Vec::new();
        let p = self.partition;
        match &self.health.backup_boot {
            BackupBoot::Same | BackupBoot::InUse { .. } => {}
            BackupBoot::BehindEnd => out.push(format!(
                "Partition {p}: the source ends before the copy of the boot sector"
            )),
            BackupBoot::Wrong { why } => out.push(format!(
                "Partition {p}: the copy of the boot sector is not usable: {}",
                safe(why)
            )),
        }
        if self.health.mft_mirror != MftMirror::Same {
            let what = mirror(&self.health.mft_mirror);
            out.push(format!("Partition {p}: $MFTMirr is {what}"));
        }
        out
    }

    /// What a backup of this state should be told about, each on its own.
    pub fn cautions(&self) -> Vec<(String, String)> {
        let mut out = Vec::new();
        let p = self.partition;
        let mut say = |code: &str, text: String| {
            out.push((code.to_string(), format!("Partition {p}: {text}")))
        };
        let h = self.health;
        if h.dirty == Some(true) {
            say(
                "dirty",
                "the dirty flag is set: Windows wants to check this volume".into(),
            );
        }
        if let Hibernation::Active { signature } = &h.hibernation {
            say(
                "hibernated",
                format!(
                    "Windows is hibernated on it (hiberfil.sys begins with {}): part of its \
                     state is in memory only",
                    safe(signature)
                ),
            );
        }
        if h.log == LogState::NotClean {
            say(
                "log",
                "$LogFile was not left clean: Windows will replay it".into(),
            );
        }
        if let Some(n) = h.bad_clusters.filter(|&n| n > 0) {
            say(
                "bad-clusters",
                format!("NTFS has marked {} as bad", count(n, "cluster")),
            );
        }
        if let BackupBoot::Wrong { why } = &h.backup_boot {
            say(
                "backup-boot",
                format!("the copy of the boot sector is not usable: {}", safe(why)),
            );
        }
        let u = self.usage;
        if u.bad_records.count > 0 {
            say(
                "bad-record",
                format!(
                    "{}; what $Bitmap calls used is kept all the same",
                    count(u.bad_records.count, "damaged file record")
                ),
            );
        }
        if u.bad_attributes.count > 0 {
            say(
                "bad-attribute",
                count(u.bad_attributes.count, "damaged attribute"),
            );
        }
        let d = &u.differences;
        for (code, list, what) in [
            (
                "used-unowned",
                &d.used_unowned,
                "used in $Bitmap and named by no file",
            ),
            (
                "owned-free",
                &d.owned_free,
                "named by a file and free in $Bitmap",
            ),
            ("owned-twice", &d.owned_twice, "named by more than one file"),
            (
                "outside",
                &d.outside,
                "named by a file and outside the volume",
            ),
        ] {
            if list.ranges > 0 {
                say(code, format!("{} {what}", count(list.clusters, "cluster")));
            }
        }
        for n in self.notes.iter().chain(&u.notes) {
            say(&n.code, safe(&n.to_string()));
        }
        out
    }
}
