//! QEMU by its machine protocol: an overlay is put over the raw image that a guest or an
//! export writes. From then on the image file stands still and is read directly; at the
//! end the overlay is committed back into it.

mod client;

use super::provider::{Made, Name, Provider, Stray, Subject, cannot, load, store};
use super::reflink::wanted;
use crate::error::{Error, ErrorKind, Result};
use client::{Client, refused};
use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub const KIND: &str = "qmp";
/// How long a node may be in use after it was replaced.
const LET_GO: Duration = Duration::from_secs(20);

/// Speaks to one QEMU.
pub struct Qmp {
    subject: Option<Subject>,
    socket: Option<PathBuf>,
    dir: Option<PathBuf>,
}

#[derive(Serialize, Deserialize)]
struct Data {
    socket: PathBuf,
    image: PathBuf,
    /// The node that is frozen.
    node: String,
    bytes: u64,
    overlay: PathBuf,
    name: Name,
    /// Size and time of last change of the image when it was frozen.
    #[serde(default)]
    frozen: Option<(u64, i64, i64)>,
}

impl Data {
    fn file_node(&self) -> String {
        format!("{}-file", self.name)
    }
    fn job(&self) -> String {
        format!("{}-job", self.name)
    }
    /// What the overlay's file is called once nothing is in it that the image lacks.
    fn committed(&self) -> PathBuf {
        self.overlay.with_extension("committed")
    }
}

impl Qmp {
    /// The QEMU behind a socket; the overlay goes beside the image or into `dir`.
    pub fn new(subject: Option<Subject>, socket: Option<PathBuf>, dir: Option<PathBuf>) -> Self {
        Self {
            subject,
            socket,
            dir,
        }
    }

    fn socket(&self, subject: &Subject) -> Result<PathBuf> {
        let socket = self.socket.clone();
        socket.ok_or_else(|| {
            cannot(subject, KIND, "which QEMU is not known").advise("name its socket: --qmp SOCKET")
        })
    }
}

/// A node as `query-named-block-nodes` lists it.
#[derive(Deserialize)]
struct Node {
    #[serde(rename = "node-name")]
    name: Option<String>,
    drv: String,
    #[serde(default)]
    ro: bool,
    image: Image,
}

#[derive(Deserialize)]
struct Image {
    filename: String,
    #[serde(rename = "virtual-size")]
    bytes: u64,
}

fn nodes(client: &mut Client) -> Result<Vec<Node>> {
    let all = client.call("query-named-block-nodes", json!({ "flat": true }))?;
    Vec::deserialize(all)
        .map_err(|e| Error::damaged("QEMU's list of nodes is not what it should be").caused_by(e))
}

/// The uppermost node that shows the raw bytes of the image.
fn node_of(all: Vec<Node>, subject: &Subject, image: &Path) -> Result<Node> {
    let no = |why: &str| cannot(subject, KIND, why);
    let same = |n: &Node| {
        Path::new(&n.image.filename)
            .canonicalize()
            .is_ok_and(|p| p == image)
    };
    let mut mine: Vec<Node> = all
        .into_iter()
        .filter(|n| n.name.is_some() && same(n))
        .collect();
    if let Some(other) = mine
        .iter()
        .find(|n| !matches!(&*n.drv, "raw" | "file" | "host_device"))
    {
        return Err(no(&format!(
            "QEMU uses it as {}, and only raw images are read here",
            other.drv
        )));
    }
    let formats = mine.iter().filter(|n| n.drv == "raw").count();
    match formats {
        0 => {}
        1 => mine.retain(|n| n.drv == "raw"),
        _ => return Err(no("QEMU has several nodes on it")),
    }
    let node = mine.pop().ok_or_else(|| no("QEMU does not use it"))?;
    match node.ro {
        true => Err(no(
            "QEMU has it read-only, so nothing is written to it, or an overlay is on it already",
        )),
        false => Ok(node),
    }
}

fn facts(image: &Path) -> Result<(u64, i64, i64)> {
    let m = image
        .metadata()
        .map_err(|e| Error::io("Cannot look at the image", e).of(image.display().to_string()))?;
    Ok((m.size(), m.mtime(), m.mtime_nsec()))
}

impl Provider for Qmp {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn prepare(&mut self, name: &Name) -> Result<Value> {
        let subject = wanted(self.subject.as_ref())?;
        let image = subject.path(KIND)?.to_path_buf();
        if subject.device.is_some() {
            return Err(cannot(
                subject,
                KIND,
                "the source is a block device, expected an image file",
            ));
        }
        let socket = self.socket(subject)?;
        let all = nodes(&mut Client::open(&socket)?)?;
        let ours = overlays(&all);
        let node = node_of(all, subject, &image).map_err(|e| match ours.first() {
            // Not found by its record, maybe: it is named here.
            Some(name) => e.advise(format!(
                "an overlay of ntbak is there: {name}; `ntbak snapshot delete {name}` brings it into the image, or, without its record, {}",
                by_hand(name)
            )),
            None => e,
        })?;
        let dir = match &self.dir {
            Some(d) => d.clone(),
            None => image.parent().unwrap_or(Path::new("/")).to_path_buf(),
        };
        let full = |p: PathBuf| p.canonicalize().unwrap_or(p);
        store(&Data {
            socket: full(socket),
            overlay: full(dir).join(format!("{name}.overlay")),
            node: node.name.unwrap_or_default(),
            bytes: node.image.bytes,
            image,
            name: name.clone(),
            frozen: None,
        })
    }

    fn create(&mut self, data: &mut Value) -> Result<()> {
        let mut d: Data = load(data)?;
        let mut client = Client::open(&d.socket)?;
        let steps = steps(&mut client, &d);
        if let Err(e) = steps {
            return Err(match remove(&mut client, &d) {
                Ok(()) => e,
                Err(left) => e.hint(format!("what was begun could not be undone: {left}")),
            });
        }
        d.frozen = Some(facts(&d.image)?);
        *data = store(&d)?;
        Ok(())
    }

    fn describe(&mut self, data: &Value) -> Result<Made> {
        let d: Data = load(data)?;
        Ok(Made {
            place: d.image.display().to_string(),
            part: None,
            label: format!("overlay {} over node {}", d.name, d.node),
            naa: None,
        })
    }

    /// Nobody else may write what is frozen.
    fn check(&mut self, data: &Value) -> Result<()> {
        let d: Data = load(data)?;
        if d.frozen.is_some() && d.frozen != Some(facts(&d.image)?) {
            return Err(Error::new(
                ErrorKind::Io,
                "The image changed although QEMU's node on it was frozen",
            )
            .of(d.image.display().to_string())
            .hint("somebody else writes to the image; find out who"));
        }
        Ok(())
    }

    fn delete(&mut self, data: &Value) -> Result<()> {
        let d: Data = load(data)?;
        let own = format!("{}.overlay", d.name);
        if d.overlay.file_name().and_then(|n| n.to_str()) != Some(&own) {
            return Err(Error::refused("This is not the name of an overlay's file")
                .of(d.overlay.display().to_string()));
        }
        let mut client = match Client::open(&d.socket) {
            Ok(c) => c,
            Err(e)
                if !d.overlay.exists()
                    && !d.committed().exists()
                    && e.kind() == ErrorKind::NotFound =>
            {
                return Ok(());
            }
            Err(e) => {
                return Err(e.advise(format!(
                    "what was written since is in {0}; when no QEMU uses it, `qemu-img commit {0}` brings it into the image",
                    d.overlay.display()
                )));
            }
        };
        remove(&mut client, &d)
    }

    fn strays(&mut self) -> Result<Vec<Stray>> {
        let subject = wanted(self.subject.as_ref())?;
        let all = nodes(&mut Client::open(&self.socket(subject)?)?)?;
        let names = overlays(&all).into_iter();
        Ok(names
            .map(|name| Stray {
                label: format!("overlay node {name}"),
                remove: by_hand(&name),
                name,
            })
            .collect())
    }
}

/// Nodes that bear our kind of name.
fn overlays(all: &[Node]) -> Vec<Name> {
    let names = all
        .iter()
        .filter_map(|n| n.name.as_deref()?.parse::<Name>().ok());
    names.collect()
}

fn by_hand(name: &Name) -> String {
    format!("QMP block-commit of device {name}, then job-complete")
}

fn steps(client: &mut Client, d: &Data) -> Result<()> {
    let (name, file, job) = (d.name.as_str(), d.file_node(), d.job());
    // Not over somebody's file.
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&d.overlay)
        .map_err(|e| {
            Error::io("Cannot make the overlay's file", e).of(d.overlay.display().to_string())
        })?;
    let add = json!({ "driver": "file", "node-name": file, "filename": d.overlay });
    client.call("blockdev-add", add)?;
    // The image is named in it, so that nothing is lost should QEMU die.
    let options = json!({
        "driver": "qcow2", "file": file, "size": d.bytes,
        "backing-file": d.image, "backing-fmt": "raw",
    });
    client.call(
        "blockdev-create",
        json!({ "job-id": job, "options": options }),
    )?;
    client.finish(&job)?;
    let add = json!({ "driver": "qcow2", "node-name": name, "file": file, "backing": null });
    client.call("blockdev-add", add)?;
    client.call(
        "blockdev-snapshot",
        json!({ "node": d.node, "overlay": name }),
    )?;
    Ok(())
}

/// Brings what is in the overlay into the image, and takes the overlay away.
fn remove(client: &mut Client, d: &Data) -> Result<()> {
    // One that an earlier attempt began goes on.
    let begun = client.has_job(&d.job())?;
    if begun {
        client.finish(&d.job())?;
    }
    let all = nodes(client)?;
    let named = |n: &str| all.iter().find(|x| x.name.as_deref() == Some(n));
    if named(d.name.as_str()).is_some() {
        // QEMU has a node read-only while an overlay is on it.
        if named(&d.node).is_none_or(|n| n.ro) {
            let args = json!({
                "job-id": d.job(), "device": d.name, "base-node": d.node,
                "auto-dismiss": false, "auto-finalize": true,
            });
            client.call("block-commit", args)?;
            client.finish(&d.job())?;
        }
        // Should all end here, the next attempt has to know that this was done.
        rename(d)?;
        del(client, d.name.as_str())?;
    } else if d.overlay.exists() && !is_empty(&d.overlay)? {
        // This QEMU began anew without it.
        return Err(Error::refused(
            "QEMU does not know the overlay any more, and it has writes that the image lacks",
        )
        .of(d.overlay.display().to_string())
        .hint(format!(
            "when nothing was written to the image since, and no QEMU has it open, `qemu-img commit {0}` brings them into it; else only what was written since is in the image, and the overlay can be looked at with {0} as a disk",
            d.overlay.display()
        )));
    }
    if named(&d.file_node()).is_some() {
        del(client, &d.file_node())?;
    }
    if in_use(&d.overlay) {
        return Err(
            Error::refused("Another QEMU has the overlay open, perhaps as its disk")
                .of(d.overlay.display().to_string())
                .hint("end it, and bring the overlay into the image with `qemu-img commit`"),
        );
    }
    for path in [&d.overlay, &d.committed()] {
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(
                    Error::io("Cannot remove the overlay's file", e).of(path.display().to_string())
                );
            }
            _ => {}
        }
    }
    Ok(())
}

/// True while a QEMU has it open: each has locks on bytes of its images.
fn in_use(overlay: &Path) -> bool {
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(overlay);
    let lock = |f: &std::fs::File| fcntl_lock(f, FlockOperation::NonBlockingLockExclusive);
    file.is_ok_and(|f| matches!(lock(&f), Err(Errno::AGAIN | Errno::ACCESS)))
}

fn rename(d: &Data) -> Result<()> {
    match std::fs::rename(&d.overlay, d.committed()) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("Cannot rename the overlay's file", e)
                .of(d.overlay.display().to_string()))
        }
        _ => Ok(()),
    }
}

/// True when an overlay has no cluster: it is not formatted yet, or no entry of its
/// first table leads anywhere. (qcow2 specification of QEMU: magic at byte 0, number of
/// entries at 36, place of the table at 40, all big-endian.)
fn is_empty(overlay: &Path) -> Result<bool> {
    let fail = |e| Error::io("Cannot read the overlay", e).of(overlay.display().to_string());
    let file = std::fs::File::open(overlay).map_err(fail)?;
    let len = file.metadata().map_err(fail)?.len();
    let mut header = [0; 48];
    if len < header.len() as u64 {
        return Ok(len == 0);
    }
    file.read_exact_at(&mut header, 0).map_err(fail)?;
    if header.iter().all(|b| *b == 0) {
        return Ok(true);
    }
    let word = |at: usize| header.get(at..at + 4).and_then(|b| b.first_chunk());
    let entries = word(36).copied().map_or(0, u32::from_be_bytes);
    let table = header.last_chunk().copied().map_or(0, u64::from_be_bytes);
    if header[..4] != *b"QFI\xfb" || u64::from(entries) > len / 8 {
        return Ok(false);
    }
    let mut bytes = vec![0; entries as usize * 8];
    match file.read_exact_at(&mut bytes, table) {
        Ok(()) => Ok(bytes.iter().all(|b| *b == 0)),
        // Never written up to there.
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(fail(e)),
    }
}

/// Takes a node away. One that was just replaced may be in use a moment longer, while
/// requests of a busy guest come to their end; one that is gone is as good as removed.
fn del(client: &mut Client, node: &str) -> Result<()> {
    let end = Instant::now() + LET_GO;
    loop {
        match client.call("blockdev-del", json!({ "node-name": node })) {
            Ok(_) => return Ok(()),
            Err(e) if refused(&e) && e.message().contains("find node") => return Ok(()),
            Err(e) if refused(&e) && e.message().contains("in use") && Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(50));
            }
            Err(e) => return Err(e),
        }
    }
}
