//! Loop devices over a file: writes through any of them are writes to it, and each has
//! a cache of its own. They come and go.

use super::{BlockCount, Count, loops_over};
use crate::device::guard::{DevNo, Stack};
use crate::error::Result;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Counts the writes through all loop devices over a file but one.
pub struct LoopCount {
    sysfs: PathBuf,
    file: PathBuf,
    except: Option<DevNo>,
    /// Each with what it showed last.
    devices: BTreeMap<DevNo, (BlockCount, u64)>,
    count: u64,
}

impl LoopCount {
    /// Over `file`, but not through `except`, which is counted by itself.
    pub fn new(sysfs: &Path, file: &Path, except: Option<DevNo>) -> Result<Self> {
        let mut me = Self {
            sysfs: sysfs.into(),
            file: file.into(),
            except,
            devices: BTreeMap::new(),
            count: 0,
        };
        me.look()?;
        me.count = 0;
        Ok(me)
    }

    fn look(&mut self) -> Result<()> {
        let now = loops_over(&Stack::new(&*self.sysfs), &self.file);
        self.devices.retain(|d, _| now.contains(d));
        for dev in now {
            if Some(dev) == self.except {
                continue;
            }
            if let Some((counter, last)) = self.devices.get_mut(&dev)
                && let Ok(n) = counter.writes()
            {
                self.count += n.saturating_sub(*last);
                *last = n;
                continue;
            }
            // One that has come: nobody knows what was written before it was seen.
            let mut counter = BlockCount::new(&self.sysfs, dev)?;
            let n = counter.writes()?;
            self.devices.insert(dev, (counter, n));
            self.count += 1;
        }
        Ok(())
    }
}

impl Count for LoopCount {
    fn writes(&mut self) -> Result<u64> {
        self.look()?;
        Ok(self.count)
    }

    fn in_flight(&mut self) -> Result<u64> {
        let each = self.devices.values_mut();
        // One that has gone has nothing on its way.
        let each = each.map(|(c, _)| c.in_flight().unwrap_or_default());
        Ok(each.fold(0, u64::saturating_add))
    }

    /// Without any there is nothing to tell.
    fn name(&self) -> String {
        match self.devices.is_empty() {
            true => String::new(),
            false => format!("loop devices on {}", self.file.display()),
        }
    }
}
