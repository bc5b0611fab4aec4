//! What a cartridge is, beside what is on it: `NAME.tap.json`.

use super::index::replace;
use crate::error::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Capacity of a cartridge when nobody says one.
pub const DEFAULT_CAPACITY: u64 = 64 << 30;

/// Most attributes, and most bytes of one.
const MAX_ATTRIBUTES: usize = 256;
const MAX_VALUE: usize = 1024;
const MAX_FILE: u64 = 1 << 20;

/// What a cartridge is. Sizes are bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Data bytes that fit.
    pub capacity: u64,
    /// Early warning begins so many bytes in front of the capacity.
    pub early_warning: u64,
    /// The tab is set.
    pub write_protected: bool,
    /// Volume tag, at most 32 printable ASCII characters.
    pub barcode: String,
    /// Serial number of the medium.
    pub serial: String,
    /// How often it was put into a drive.
    pub load_count: u64,
    /// Attributes that hosts wrote, ascending by id.
    pub attributes: Vec<Attribute>,
}

/// One attribute of the medium auxiliary memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Attribute identifier.
    pub id: u16,
    /// 0 binary, 1 ASCII, 2 text.
    pub format: u8,
    /// Value.
    pub value: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OnDisk {
    format: u32,
    #[serde(default)]
    capacity: Option<u64>,
    #[serde(default)]
    early_warning: Option<u64>,
    #[serde(default)]
    write_protected: bool,
    #[serde(default)]
    barcode: String,
    #[serde(default)]
    serial: String,
    #[serde(default)]
    load_count: u64,
    #[serde(default)]
    attributes: Vec<AttributeOnDisk>,
}

#[derive(Serialize, Deserialize)]
struct AttributeOnDisk {
    id: String,
    format: u8,
    value: String,
}

impl Facts {
    /// Of a new cartridge.
    pub fn new(capacity: u64, barcode: &str) -> Self {
        Self {
            capacity,
            early_warning: early_warning(capacity),
            write_protected: false,
            barcode: barcode.to_owned(),
            serial: String::new(),
            load_count: 0,
            attributes: Vec::new(),
        }
    }

    /// The value of an attribute that a host wrote.
    pub fn attribute(&self, id: u16) -> Option<&Attribute> {
        self.attributes.iter().find(|a| a.id == id)
    }

    /// Sets, or with an empty value removes, an attribute. False when there
    /// is no room.
    pub fn set_attribute(&mut self, id: u16, format: u8, value: &[u8]) -> bool {
        let at = self.attributes.binary_search_by_key(&id, |a| a.id);
        if value.is_empty() {
            if let Ok(i) = at {
                self.attributes.remove(i);
            }
            return true;
        }
        if value.len() > MAX_VALUE {
            return false;
        }
        let new = Attribute {
            id,
            format,
            value: value.to_vec(),
        };
        match at {
            Ok(i) => match self.attributes.get_mut(i) {
                Some(a) => *a = new,
                None => return false,
            },
            Err(_) if self.attributes.len() >= MAX_ATTRIBUTES => return false,
            Err(i) => self.attributes.insert(i, new),
        }
        true
    }

    /// Of a cartridge that nobody needs to open: what `NAME.tap.json` says, or the
    /// usual values when there is none.
    pub fn of(cartridge: &Path) -> Result<Self> {
        let known = Self::load(&super::sidecar(cartridge, "json"))?;
        Ok(known.unwrap_or_else(|| Self::new(DEFAULT_CAPACITY, "")))
    }

    /// Reads the file; none when there is none.
    pub(super) fn load(path: &Path) -> Result<Option<Self>> {
        let name = path.display().to_string();
        let file = match File::open(path) {
            Ok(f) => f,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io("Cannot open the file", e).of(name)),
        };
        let mut bytes = Vec::new();
        file.take(MAX_FILE + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| Error::io("Cannot read the file", e).of(&*name))?;
        let facts = if bytes.len() as u64 > MAX_FILE {
            Err(format!("longer than {MAX_FILE} bytes"))
        } else {
            Self::decode(&bytes)
        };
        facts.map(Some).map_err(|why| {
            Error::new(
                ErrorKind::Damaged,
                format!("Not a description of a cartridge: {why}"),
            )
            .of(name)
            .hint("correct it, or remove it: a new one is made with the usual values")
        })
    }

    fn decode(bytes: &[u8]) -> std::result::Result<Self, String> {
        let d: OnDisk = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        if d.format != 1 {
            return Err(format!("format {}, expected 1", d.format));
        }
        let capacity = d.capacity.unwrap_or(DEFAULT_CAPACITY);
        let distance = d.early_warning.unwrap_or(early_warning(capacity));
        if distance > capacity {
            return Err("early_warning is more than capacity".into());
        }
        for (what, text, most) in [("barcode", &d.barcode, 32), ("serial", &d.serial, 32)] {
            if text.len() > most || !text.bytes().all(|b| (0x20..0x7f).contains(&b)) {
                return Err(format!(
                    "{what} is not a text of at most {most} ASCII characters"
                ));
            }
        }
        let mut facts = Self {
            early_warning: distance,
            write_protected: d.write_protected,
            serial: d.serial,
            load_count: d.load_count,
            ..Self::new(capacity, &d.barcode)
        };
        for a in d.attributes {
            let id = u16::from_str_radix(&a.id, 16).map_err(|_| format!("id {:?}", a.id))?;
            let value = unhex(&a.value).ok_or_else(|| format!("value of {id:04x}"))?;
            if a.format > 2 || !facts.set_attribute(id, a.format, &value) {
                return Err(format!("attribute {id:04x} is too long or one too many"));
            }
        }
        Ok(facts)
    }

    pub(super) fn save(&self, path: &Path) -> Result<()> {
        let d = OnDisk {
            format: 1,
            capacity: Some(self.capacity),
            early_warning: Some(self.early_warning),
            write_protected: self.write_protected,
            barcode: self.barcode.clone(),
            serial: self.serial.clone(),
            load_count: self.load_count,
            attributes: self
                .attributes
                .iter()
                .map(|a| AttributeOnDisk {
                    id: format!("{:04x}", a.id),
                    format: a.format,
                    value: hex(&a.value),
                })
                .collect(),
        };
        let mut text = serde_json::to_vec_pretty(&d)
            .map_err(|e| Error::damaged(format!("Cannot describe the cartridge: {e}")))?;
        text.push(b'\n');
        replace(path, &text)
    }
}

/// A 32nd of the capacity, at most 256 MiB.
fn early_warning(capacity: u64) -> u64 {
    (capacity / 32).min(256 << 20)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || text.len() > 2 * MAX_VALUE || !text.is_ascii() {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(text.get(i..i + 2)?, 16).ok())
        .collect()
}
