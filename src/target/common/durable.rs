//! Persistent reservations that survive the end of the target (APTPL): a file
//! beside the medium, replaced as a whole before the command that changed them
//! ends.

use super::reservation::{Held, Kind, MOST_REGISTRATIONS, Port, Registration, Reservations};
use crate::error::{Error, ErrorKind, Result};
use crate::tape::cartridge::{remove, replace};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Longest file that is read.
const MAX_FILE: u64 = 1 << 20;
/// Longest iSCSI name (RFC 7143).
const LONGEST_NAME: usize = 223;

#[derive(Serialize, Deserialize)]
struct OnDisk {
    format: u32,
    registrations: Vec<RegistrationOnDisk>,
    reservation: Option<HeldOnDisk>,
}

#[derive(Serialize, Deserialize)]
struct RegistrationOnDisk {
    initiator: String,
    isid: String,
    key: String,
}

#[derive(Serialize, Deserialize)]
struct HeldOnDisk {
    initiator: String,
    isid: String,
    r#type: u8,
}

/// What the file says; nothing when there is none.
pub fn load(path: &Path) -> Result<Reservations> {
    let name = path.display().to_string();
    let file = match File::open(path) {
        Ok(f) => f,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Reservations::default()),
        Err(e) => return Err(Error::io("Cannot open the file", e).of(name)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| Error::io("Cannot read the file", e).of(&*name))?;
    let found = match bytes.len() as u64 > MAX_FILE {
        true => Err(format!("longer than {MAX_FILE} bytes")),
        false => decode(&bytes),
    };
    found.map_err(|why| {
        Error::new(
            ErrorKind::Damaged,
            format!("Not the persistent reservations of a disk: {why}"),
        )
        .of(name)
        .hint("correct it, or remove it: nobody holds a reservation then")
    })
}

/// Writes them down, or removes the file when there is nothing to keep.
pub fn save(path: &Path, r: &Reservations) -> Result<()> {
    if r.durable && !r.registered.is_empty() {
        return replace(path, &encode(r)?);
    }
    remove(path)
}

fn encode(r: &Reservations) -> Result<Vec<u8>> {
    let d = OnDisk {
        format: 1,
        registrations: r
            .registered
            .iter()
            .map(|r| RegistrationOnDisk {
                initiator: r.port.initiator.to_string(),
                isid: isid(&r.port),
                key: format!("{:016x}", r.key),
            })
            .collect(),
        reservation: r.held.as_ref().map(|h| HeldOnDisk {
            initiator: h.port.initiator.to_string(),
            isid: isid(&h.port),
            r#type: h.kind as u8,
        }),
    };
    let mut text = serde_json::to_vec_pretty(&d)
        .map_err(|e| Error::damaged(format!("Cannot write reservations down: {e}")))?;
    text.push(b'\n');
    Ok(text)
}

fn isid(port: &Port) -> String {
    port.isid.iter().map(|b| format!("{b:02x}")).collect()
}

fn port(initiator: &str, isid: &str) -> std::result::Result<Port, String> {
    let number = u64::from_str_radix(isid, 16).ok();
    match number.filter(|_| isid.len() == 12) {
        Some(n) if !initiator.is_empty() && initiator.len() <= LONGEST_NAME => {
            let [_, _, isid @ ..] = n.to_be_bytes();
            Ok(Port {
                initiator: initiator.into(),
                isid,
            })
        }
        _ => Err(format!("initiator {initiator:?}, isid {isid:?}")),
    }
}

fn decode(bytes: &[u8]) -> std::result::Result<Reservations, String> {
    let d: OnDisk = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    if d.format != 1 {
        return Err(format!("format {}, expected 1", d.format));
    }
    let mut r = Reservations::default();
    for on_disk in &d.registrations {
        let port = port(&on_disk.initiator, &on_disk.isid)?;
        let key = u64::from_str_radix(&on_disk.key, 16).unwrap_or(0);
        if key == 0 {
            return Err(format!("key {:?}", on_disk.key));
        }
        if r.key_of(&port).is_some() {
            return Err(format!("{} is registered twice", on_disk.initiator));
        }
        r.registered.push(Registration { port, key });
    }
    if r.registered.len() > MOST_REGISTRATIONS {
        return Err(format!("more than {MOST_REGISTRATIONS} registrations"));
    }
    if let Some(h) = &d.reservation {
        let port = port(&h.initiator, &h.isid)?;
        let kind = Kind::of(h.r#type).ok_or_else(|| format!("type {}", h.r#type))?;
        // The maker of a reservation that all registrants hold may be gone.
        let holder = match kind.all() {
            true => !r.registered.is_empty(),
            false => r.key_of(&port).is_some(),
        };
        if !holder {
            return Err("the holder of the reservation is not registered".into());
        }
        r.held = Some(Held { port, kind });
    }
    r.durable = !r.registered.is_empty();
    Ok(r)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn some() -> impl Strategy<Value = Reservations> {
        let registration = ("[a-z.:\"\\\\]{1,40}", any::<[u8; 6]>(), 1u64..);
        let all = proptest::collection::btree_map(any::<u8>(), registration, 1..20);
        (all, 0usize..20, proptest::option::of(0usize..6)).prop_map(|(all, holder, kind)| {
            let mut r = Reservations::default();
            for (_, (name, isid, key)) in all {
                let initiator = name.as_str().into();
                assert!(r.register(&Port { initiator, isid }, key));
            }
            let port = r.registered[holder % r.registered.len()].port.clone();
            r.held = kind.map(|k| Held {
                port,
                kind: Kind::of([1, 3, 5, 6, 7, 8][k]).unwrap(),
            });
            r.durable = true;
            r
        })
    }

    proptest! {
        #[test]
        fn what_was_written_down_comes_back(r in some()) {
            let back = decode(&encode(&r).unwrap()).unwrap();
            prop_assert_eq!(&back.registered, &r.registered);
            prop_assert_eq!(&back.held, &r.held);
            prop_assert!(back.durable && back.generation == 0);
        }

        #[test]
        fn any_bytes_are_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let with = |registration: &str, held: &str| {
            decode(
                format!(r#"{{"format":1,"registrations":[{registration}],"reservation":{held}}}"#)
                    .as_bytes(),
            )
        };
        let one = r#"{"initiator":"iqn.a","isid":"800000000001","key":"1"}"#;
        assert!(with(one, "null").is_ok());
        let held = r#"{"initiator":"iqn.a","isid":"800000000001","type":TYPE}"#;
        assert!(with(one, &held.replace("TYPE", "1")).is_ok());
        for (r, h) in [
            (one.replace("\"1\"", "\"0\""), "null".into()),
            (one.replace("80000", "8000"), "null".into()),
            (one.replace("iqn.a", ""), "null".into()),
            (format!("{one},{one}"), "null".into()),
            (one.into(), held.replace("TYPE", "2")),
            (
                one.into(),
                held.replace("TYPE", "1").replace("iqn.a", "iqn.b"),
            ),
            (String::new(), held.replace("TYPE", "7")),
        ] {
            assert!(with(&r, &h).is_err(), "{r} {h}");
        }
    }
}
