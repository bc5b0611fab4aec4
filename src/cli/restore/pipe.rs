//! The plan for an archive that is read only once, from front to back.

use crate::archive::{DiskInfo, RegionKind, TableKind};
use crate::error::{Error, Result};
use crate::ops::restore::{Difference, Frame, Replacement, RestorePlan, Wishes};
use crate::units::human_bytes;

const SAVE: &str = "save the archive to a file first";

/// Everything as it was; what that means on another disk is said.
pub fn as_it_was(disk: &DiskInfo, wishes: &Wishes) -> Result<Replacement> {
    if !wishes.is_plain() || matches!(wishes.frame, Frame::Into { .. }) {
        return Err(Error::unsupported(
            "An archive from a pipe can only be restored as it was: anything else needs to read it by position",
        )
        .hint(SAVE));
    }
    let mut new = RestorePlan::new(disk, wishes.partition).map(Replacement::plain)?;
    let (room, start) = match wishes.frame {
        Frame::Device(n) => (n, None),
        Frame::Partition { bytes, start } => (bytes, Some(start)),
        Frame::File | Frame::Into { .. } => return Ok(new),
    };
    let needed = new.plan.bytes;
    if room < needed {
        return Err(Error::refused(format!(
            "The target is too small for an archive from a pipe, which can only be restored as it was: it has {room} bytes ({}), {needed} bytes ({}) are needed",
            human_bytes(room),
            human_bytes(needed)
        ))
        .hint(format!("{SAVE}: it may be laid out smaller then")));
    }
    let whole = new.plan.landing(0).is_some();
    let mut differ = |partition, code: &str, message: &str| {
        new.differences.push(Difference {
            partition,
            code: code.into(),
            message: message.into(),
        });
    };
    if whole && disk.table == TableKind::Gpt && room > needed && wishes.size.is_none() {
        differ(
            None,
            "gpt-not-moved",
            "From a pipe the disk is restored as it was: the copy of its GPT stays where the old disk ended, and tools will call that an error (sgdisk --move-second-header mends it)",
        );
    }
    if let (Some(start), [only]) = (start, new.plan.regions.as_slice())
        && only.region.start != start
        && only.region.kind != RegionKind::Outside
    {
        let number = Some(only.region.number);
        differ(
            number,
            "place-not-told",
            "From a pipe it is restored as it was: what its boot sector says of the sectors before it stays the old number",
        );
    }
    Ok(new)
}
