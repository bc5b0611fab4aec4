//! LVM: `lvcreate --snapshot`, thin or classic. A classic snapshot has room for so
//! many changes of its origin; when it is full it is invalid, so that is watched.

use super::provider::{Made, Name, Provider, Stray, Subject, cannot, load, store};
use super::reflink::wanted;
use super::runner::{Call, Runner, failed};
use crate::error::{Error, ErrorKind, Result};
use crate::units::human_bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;

pub const KIND: &str = "lvm";
/// Share of the origin's size that a classic snapshot gets when nobody says.
const SHARE: u64 = 5;
/// At least so much.
const LEAST: u64 = 64 << 20;

/// Calls LVM's tools.
pub struct Lvm {
    subject: Option<Subject>,
    size: Option<u64>,
    runner: Arc<dyn Runner>,
}

#[derive(Serialize, Deserialize)]
struct Data {
    group: String,
    volume: String,
    snapshot: Name,
    /// Bytes for changes, of a classic snapshot.
    #[serde(default)]
    size: Option<u64>,
}

impl Data {
    fn full(&self) -> String {
        format!("{}/{}", self.group, self.snapshot)
    }
}

impl Lvm {
    /// Of a source; `size` is the room for changes of a classic snapshot.
    pub fn new(subject: Option<Subject>, size: Option<u64>, runner: Arc<dyn Runner>) -> Self {
        Self {
            subject,
            size,
            runner,
        }
    }

    /// One row of `lvs` as an object of texts.
    fn lvs(&self, fields: &str, what: &str) -> Result<Vec<Value>> {
        let call = Call::tool(
            "lvs",
            [
                "--reportformat",
                "json",
                "--units",
                "b",
                "--nosuffix",
                "-o",
                fields,
                what,
            ],
        );
        let text = self.runner.output(&call)?;
        let odd = || Error::damaged("The answer of lvs is not what it should be").of(what);
        let v: Value = serde_json::from_str(&text).map_err(|e| odd().caused_by(e))?;
        let rows = v["report"][0]["lv"].as_array().ok_or_else(odd)?;
        Ok(rows.clone())
    }
}

/// The name by which LVM's tools know a device: not `/dev/dm-N`, where links end.
fn name_of_device(subject: &Subject) -> Result<String> {
    let path = subject.path(KIND)?;
    let name = subject.device.and_then(super::dm::name_of);
    Ok(match name {
        Some(n) => format!("/dev/mapper/{n}"),
        None => path.display().to_string(),
    })
}

fn text(row: &Value, field: &str) -> String {
    row[field].as_str().unwrap_or_default().to_string()
}

fn number(row: &Value, field: &str) -> Option<u64> {
    row[field].as_str()?.parse().ok()
}

impl Provider for Lvm {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn prepare(&mut self, name: &Name) -> Result<Value> {
        let subject = wanted(self.subject.as_ref())?;
        let path = name_of_device(subject)?;
        if subject.device.is_none() {
            return Err(cannot(subject, KIND, "the source is no logical volume"));
        }
        let fields = "vg_name,lv_name,lv_size,vg_free,segtype";
        let rows = self
            .lvs(fields, &path)
            .map_err(|e| cannot(subject, KIND, "the source is no logical volume").caused_by(e))?;
        let [row] = &rows[..] else {
            return Err(cannot(
                subject,
                KIND,
                "the source is not one logical volume",
            ));
        };
        let size = match text(row, "segtype") == "thin" {
            true => None,
            false => {
                let origin = number(row, "lv_size").unwrap_or(0);
                let free = number(row, "vg_free").unwrap_or(0);
                let size = self.size.unwrap_or((origin / SHARE).max(LEAST).min(free));
                if size == 0 || size > free {
                    return Err(cannot(
                        subject,
                        KIND,
                        &format!(
                            "the volume group has {} free, {} are wanted for changes",
                            human_bytes(free),
                            human_bytes(size.max(LEAST))
                        ),
                    )
                    .hint("make room in the volume group, or give less with --snapshot-size"));
                }
                Some(size)
            }
        };
        store(&Data {
            group: text(row, "vg_name"),
            volume: text(row, "lv_name"),
            snapshot: name.clone(),
            size,
        })
    }

    fn create(&mut self, data: &mut Value) -> Result<()> {
        let d: Data = load(data)?;
        let mut args = [
            "lvcreate",
            "--yes",
            "--snapshot",
            "--permission",
            "r",
            "--name",
        ]
        .map(String::from)
        .to_vec();
        args.push(d.snapshot.to_string());
        args.extend(match d.size {
            Some(n) => ["--size".into(), format!("{n}b")],
            // Else a thin snapshot waits for somebody to activate it.
            None => ["--setactivationskip".into(), "n".into()],
        });
        args.push(format!("{}/{}", d.group, d.volume));
        self.runner
            .output(&Call::tool(&args[0], &args[1..]))
            .map(drop)
    }

    fn describe(&mut self, data: &Value) -> Result<Made> {
        let d: Data = load(data)?;
        let rows = self.lvs("lv_path", &d.full())?;
        let place = rows.first().map(|r| text(r, "lv_path")).unwrap_or_default();
        match place.starts_with('/') {
            true => Ok(Made {
                place,
                part: None,
                label: d.full(),
                naa: None,
            }),
            false => Err(Error::not_found("The snapshot has no device").of(d.full())),
        }
    }

    fn check(&mut self, data: &Value) -> Result<()> {
        let d: Data = load(data)?;
        let rows = self.lvs("lv_attr,data_percent,lv_snapshot_invalid", &d.full())?;
        let row = rows.first().cloned().unwrap_or_default();
        let percent: f64 = text(&row, "data_percent").parse().unwrap_or(0.0);
        let full = percent >= 100.0;
        // The fifth letter: I and S are snapshots that are not valid any more.
        let letter = text(&row, "lv_attr").chars().nth(4);
        let invalid = matches!(letter, Some('I' | 'S'))
            || text(&row, "lv_snapshot_invalid") == "snapshot invalid";
        if invalid || (full && d.size.is_some()) {
            let room = d
                .size
                .map_or_else(String::new, |n| format!(" of {}", human_bytes(n)));
            return Err(Error::new(
                ErrorKind::Io,
                format!("The snapshot's room for changes{room} is full, and the snapshot is worth nothing"),
            )
            .of(d.full())
            .hint("give it more with --snapshot-size, or run when less is written"));
        }
        Ok(())
    }

    fn delete(&mut self, data: &Value) -> Result<()> {
        let d: Data = load(data)?;
        let call = Call::tool("lvremove", ["--yes", &d.full()]);
        let ended = self.runner.run(&call)?;
        let gone = ended.err.contains("Failed to find logical volume");
        match ended.code {
            Some(0) => Ok(()),
            _ if gone => Ok(()),
            _ => Err(failed(&call, &ended)),
        }
    }

    fn strays(&mut self) -> Result<Vec<Stray>> {
        let subject = wanted(self.subject.as_ref())?;
        let path = name_of_device(subject)?;
        let rows = self.lvs("vg_name,lv_name", &path)?;
        let Some(row) = rows.first() else {
            return Ok(Vec::new());
        };
        let (group, volume) = (text(row, "vg_name"), text(row, "lv_name"));
        let rows = self.lvs("lv_name,origin", &group)?;
        let mine = rows.iter().filter(|r| text(r, "origin") == volume);
        Ok(mine
            .filter_map(|r| {
                let name: Name = text(r, "lv_name").parse().ok()?;
                let label = format!("{group}/{name}");
                Some(Stray {
                    remove: format!("lvremove --yes {label}"),
                    name,
                    label,
                })
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::runner::Transcript;

    /// A device that this machine does not have.
    fn subject(path: &str) -> Subject {
        Subject {
            text: path.into(),
            path: Some(path.into()),
            device: Some((4095, 1)),
            unit: None,
        }
    }

    #[test]
    fn a_classic_snapshot_as_it_was_recorded() {
        let name = Name::new().unwrap();
        let text = include_str!("transcripts/lvm-classic.txt");
        let runner = Arc::new(Transcript::new(text, name.as_str()));
        let mut lvm = Lvm::new(Some(subject("/dev/vg/vol")), None, runner.clone());
        let mut data = lvm.prepare(&name).unwrap();
        lvm.create(&mut data).unwrap();
        let made = lvm.describe(&data).unwrap();
        assert_eq!(made.place, format!("/dev/vg/{name}"));
        lvm.check(&data).unwrap();
        let strays = lvm.strays().unwrap();
        assert_eq!((strays.len(), &strays[0].name), (1, &name));
        let e = lvm.check(&data).unwrap_err();
        assert!(
            e.to_string()
                .contains("room for changes of 64.0 MiB is full"),
            "{e}"
        );
        lvm.delete(&data).unwrap();
        lvm.delete(&data).unwrap();
        assert_eq!(runner.left(), 0);
    }

    #[test]
    fn a_thin_snapshot_as_it_was_recorded() {
        let name = Name::new().unwrap();
        let text = include_str!("transcripts/lvm-thin.txt");
        let runner = Arc::new(Transcript::new(text, name.as_str()));
        let mut lvm = Lvm::new(Some(subject("/dev/vg/thin")), None, runner.clone());
        let mut data = lvm.prepare(&name).unwrap();
        lvm.create(&mut data).unwrap();
        lvm.describe(&data).unwrap();
        lvm.check(&data).unwrap();
        lvm.delete(&data).unwrap();
        assert_eq!(runner.left(), 0);
    }

    #[test]
    fn a_group_without_room_is_refused() {
        let name = Name::new().unwrap();
        let text = include_str!("transcripts/lvm-classic.txt").replace("226492416", "0");
        let runner = Arc::new(Transcript::new(&text, name.as_str()));
        let mut lvm = Lvm::new(Some(subject("/dev/vg/vol")), None, runner);
        let e = lvm.prepare(&name).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Refused);
        assert!(
            e.to_string().contains("has 0 bytes free") || e.to_string().contains("has 0 B"),
            "{e}"
        );
    }
}
