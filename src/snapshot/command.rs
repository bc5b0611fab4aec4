//! A program of the user's: it gets its data by environment variables and prints
//! one JSON object (`docs/snapshot.md`). It covers whatever an array has.

use super::provider::{Made, Name, Provider, Subject, cannot, load, store};
use super::reflink::wanted;
use super::runner::{Call, Runner, failed};
use crate::error::{Error, ErrorKind, Result};
use crate::iscsi::without_secret;
use rustix::fs::{Access, access};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub const KIND: &str = "command";
/// Time for one call.
const TIME: Duration = Duration::from_secs(600);
/// Most bytes of an object that is passed back: a variable may have 128 KiB on Linux.
const MOST_STATE: usize = 64 << 10;
/// Time in which the snapshot must become readable.
const READY: Duration = Duration::from_secs(600);

/// Calls the program.
pub struct Program {
    program: PathBuf,
    subject: Option<Subject>,
    runner: Arc<dyn Runner>,
}

#[derive(Serialize, Deserialize)]
struct Data {
    program: PathBuf,
    source: String,
    name: Name,
    /// What it said last, as it is.
    #[serde(default)]
    said: Value,
}

/// What it may say.
#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    place: Option<String>,
    #[serde(default)]
    label: Option<String>,
    #[serde(default)]
    naa: Option<String>,
    /// First byte and length of the source in it.
    #[serde(default)]
    part: Option<(u64, u64)>,
    #[serde(default)]
    ready: Option<bool>,
    #[serde(default)]
    error: Option<String>,
}

impl Program {
    /// The program at a path.
    pub fn new(program: PathBuf, subject: Option<Subject>, runner: Arc<dyn Runner>) -> Self {
        Self {
            program,
            subject,
            runner,
        }
    }

    /// What is to be kept of it.
    fn said(&self, action: &'static str, d: &Data) -> Result<Value> {
        let said = self.call(action, d)?.0;
        let bytes = said.to_string().len();
        match bytes <= MOST_STATE {
            true => Ok(said),
            false => Err(Error::damaged(format!(
                "The program printed an object of {bytes} bytes, expected at most {MOST_STATE}, since it is passed back by the environment"
            ))
            .hint("let it keep the rest by NTBAK_SNAPSHOT, the name"))
            .map_err(|e| blame(d, action, e)),
        }
    }

    fn call(&self, action: &'static str, d: &Data) -> Result<(Value, Said)> {
        let call = Call {
            program: d.program.clone().into(),
            args: Vec::new(),
            env: vec![
                ("NTBAK_ACTION", action.into()),
                ("NTBAK_SOURCE", d.source.clone().into()),
                ("NTBAK_SNAPSHOT", d.name.to_string().into()),
                ("NTBAK_STATE", d.said.to_string().into()),
            ],
            time: TIME,
            // What is begun may have to be ended; deleting is the end.
            stops: action != "delete",
        };
        let of = |e: Error| blame(d, action, e);
        let ended = self.runner.run(&call).map_err(of)?;
        if ended.code != Some(0) {
            return Err(of(failed(&call, &ended)));
        }
        let text = match ended.out.trim() {
            "" if action == "delete" || action == "prepare" => "{}",
            t => t,
        };
        let odd = "The program did not print one JSON object";
        let value: Value =
            serde_json::from_str(text).map_err(|e| of(Error::damaged(odd).caused_by(e)))?;
        if !value.is_object() {
            return Err(of(Error::damaged(odd)));
        }
        let said: Said = Said::deserialize(&value).map_err(|e| {
            of(
                Error::damaged("A field of what the program printed is not of its kind")
                    .caused_by(e),
            )
        })?;
        match &said.error {
            Some(e) => Err(of(Error::new(
                ErrorKind::Io,
                format!("The program says: {e}"),
            ))),
            None => Ok((value, said)),
        }
    }
}

/// Whose fault it is, and where it is said what to do.
fn blame(d: &Data, action: &str, e: Error) -> Error {
    match e.kind() {
        ErrorKind::Interrupted => e,
        _ => e
            .of(format!("{} {action}", d.program.display()))
            .hint("what the program has to do is in docs/snapshot.md, section 6"),
    }
}

fn is_naa(text: &str) -> bool {
    matches!(text.len(), 16 | 32) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Where the program is: as it was named, or in the directories of `PATH`.
fn find(program: &Path) -> Option<PathBuf> {
    if program.components().count() > 1 {
        return program.canonicalize().ok();
    }
    let all = std::env::var_os("PATH")?;
    std::env::split_paths(&all)
        .map(|d| d.join(program))
        .find(|p| p.is_file() && access(p, Access::EXEC_OK).is_ok())
}

impl Provider for Program {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn prepare(&mut self, name: &Name) -> Result<Value> {
        let subject = wanted(self.subject.as_ref())?;
        let mut d = Data {
            program: find(&self.program).ok_or_else(|| {
                cannot(
                    subject,
                    KIND,
                    &format!("there is no program {}", self.program.display()),
                )
            })?,
            source: match &subject.path {
                Some(p) => p.display().to_string(),
                None => subject.text.clone(),
            },
            name: name.clone(),
            said: Value::Null,
        };
        d.said = self.said("prepare", &d)?;
        store(&d)
    }

    fn create(&mut self, data: &mut Value) -> Result<()> {
        let mut d: Data = load(data)?;
        d.said = self.said("create", &d)?;
        *data = store(&d)?;
        Ok(())
    }

    fn describe(&mut self, data: &Value) -> Result<Made> {
        let d: Data = load(data)?;
        let end = Instant::now() + READY;
        let mut pause = Duration::from_millis(100);
        loop {
            let (_, said) = self.call("describe", &d)?;
            let of = |e: Error| blame(&d, "describe", e);
            match said.place.filter(|p| !p.is_empty()) {
                _ if said.ready == Some(false) && Instant::now() < end => {}
                _ if said.ready == Some(false) => {
                    let what = format!("The snapshot was not ready within {} s", READY.as_secs());
                    return Err(of(Error::refused(what)));
                }
                Some(_) if said.naa.as_deref().is_some_and(|n| !is_naa(n)) => {
                    return Err(of(Error::damaged(
                        "What the program says of the unit (naa) is no designator: expected 16 or 32 hexadecimal digits",
                    )));
                }
                Some(place) => {
                    return Ok(Made {
                        label: said.label.unwrap_or_else(|| without_secret(&place)),
                        place,
                        part: said.part,
                        naa: said.naa,
                    });
                }
                None => {
                    return Err(of(Error::damaged(
                        "The program does not say where the snapshot is (place)",
                    )));
                }
            }
            if !self.runner.pause(pause) {
                return Err(Error::interrupted());
            }
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }

    fn delete(&mut self, data: &Value) -> Result<()> {
        let d: Data = load(data)?;
        self.call("delete", &d).map(drop)
    }
}
