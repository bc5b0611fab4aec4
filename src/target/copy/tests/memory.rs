//! Units in memory: the devices of the oracle behind the traits of the copy
//! manager, and a target around them.

use crate::copy::oracle::{Disk, Fault, Object, Tape};
use crate::scsi::{Failure, Sense, SenseKey, Status};
use crate::target::common::{
    Answer, Cdb, CommandInfo, Device, Refusal, ThirdPartyCopy, Unit, encode_lun,
};
use crate::target::copy::{CopyDisk, CopyManager, CopyTape};
use crate::target::lun::{Nexus, Reply, Request, Units};
use crate::target::{CopyProfile, UnitSet};
use std::io::IoSlice;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

fn failure((key, code): Fault) -> Box<Failure> {
    let [asc, ascq] = code.to_be_bytes();
    Box::new(Failure {
        status: Status::CheckCondition,
        sense: Some(Sense::new(SenseKey::of(key), asc, ascq)),
    })
}

/// A disk or a tape.
#[derive(Default)]
pub struct Memory {
    pub disk: Option<Mutex<Disk>>,
    pub tape: Option<Mutex<Tape>>,
    pub protected: AtomicBool,
    /// Blocks until the tape is full; 0 is never.
    pub early: AtomicU64,
    /// Milliseconds that a disk read takes.
    pub slow: AtomicU64,
}

impl Memory {
    pub fn disk(disk: Disk) -> Arc<Self> {
        Arc::new(Self {
            disk: Some(Mutex::new(disk)),
            ..Self::default()
        })
    }
    pub fn tape(tape: Tape) -> Arc<Self> {
        Arc::new(Self {
            tape: Some(Mutex::new(tape)),
            ..Self::default()
        })
    }
    pub fn disk_now(&self) -> Disk {
        self.disk.as_ref().unwrap().lock().unwrap().clone()
    }
    pub fn tape_now(&self) -> Tape {
        self.tape.as_ref().unwrap().lock().unwrap().clone()
    }
}

impl CopyDisk for Memory {
    fn block(&self) -> u32 {
        self.disk.as_ref().unwrap().lock().unwrap().block
    }
    fn blocks(&self) -> u64 {
        self.disk.as_ref().unwrap().lock().unwrap().blocks
    }
    fn read(&self, lba: u64, buf: &mut [u8]) -> Result<(), (usize, Box<Failure>)> {
        let slow = self.slow.load(Ordering::Relaxed);
        std::thread::sleep(std::time::Duration::from_millis(slow));
        let disk = self.disk.as_ref().unwrap().lock().unwrap();
        let block = disk.block as usize;
        assert_eq!(buf.len() % block, 0, "whole blocks are read");
        for (i, to) in buf.chunks_mut(block).enumerate() {
            match disk.read(lba + i as u64) {
                Ok(b) => to.copy_from_slice(&b),
                Err(f) => return Err((i * block, failure(f))),
            }
        }
        Ok(())
    }
    fn write(&self, lba: u64, data: &mut [IoSlice<'_>]) -> Result<(), (usize, Box<Failure>)> {
        let mut disk = self.disk.as_ref().unwrap().lock().unwrap();
        let all: Vec<u8> = data.iter().flat_map(|s| s.iter()).copied().collect();
        let block = disk.block as usize;
        assert_eq!(all.len() % block, 0, "whole blocks are written");
        for (i, b) in all.chunks(block).enumerate() {
            let r = disk.write(lba + i as u64, b.to_vec());
            r.map_err(|f| (i * block, failure(f)))?;
        }
        Ok(())
    }
}

impl CopyTape for Memory {
    fn takes_fixed(&self, _: u32) -> bool {
        true
    }

    fn read(&self, block: u32, buf: &mut [u8]) -> Result<usize, Box<Failure>> {
        let mut tape = self.tape.as_ref().unwrap().lock().unwrap();
        let mut n = 0;
        for to in buf.chunks_exact_mut(block as usize) {
            match tape.objects.get(tape.position) {
                Some(Object::Block(b)) if b.len() == block as usize => to.copy_from_slice(b),
                _ if n > 0 => break,
                _ => return tape.read(block as usize).map(|_| 0).map_err(failure),
            }
            tape.position += 1;
            n += 1;
        }
        Ok(n)
    }
    fn write(&self, block: u32, data: &[IoSlice<'_>]) -> (usize, Option<Box<Failure>>) {
        let mut tape = self.tape.as_ref().unwrap().lock().unwrap();
        let all: Vec<u8> = data.iter().flat_map(|s| s.iter()).copied().collect();
        assert_eq!(all.len() % block as usize, 0, "whole blocks are written");
        let early = self.early.load(Ordering::Relaxed);
        for (i, b) in all.chunks(block as usize).enumerate() {
            tape.write(Object::Block(b.to_vec()));
            if early != 0 && tape.position as u64 >= early {
                let mut f = failure((0, 0x0002));
                f.sense.as_mut().unwrap().eom = true;
                return (i + 1, Some(f));
            }
        }
        (all.len() / block as usize, None)
    }
    fn filemarks(&self, count: u32, _immediate: bool) -> Result<(), Box<Failure>> {
        let mut tape = self.tape.as_ref().unwrap().lock().unwrap();
        (0..count).for_each(|_| tape.write(Object::Mark));
        Ok(())
    }
    fn space(&self, code: u8, count: i32) -> Result<(), Box<Failure>> {
        let mut tape = self.tape.as_ref().unwrap().lock().unwrap();
        tape.space(code, count).map_err(failure)
    }
    fn locate(&self, object: u64) -> Result<(), Box<Failure>> {
        let mut tape = self.tape.as_ref().unwrap().lock().unwrap();
        tape.locate(object).map_err(failure)
    }
    fn unread(&self, blocks: u64) -> Result<(), Box<Failure>> {
        let mut tape = self.tape.as_ref().unwrap().lock().unwrap();
        tape.position -= blocks as usize;
        Ok(())
    }
}

impl Device for Memory {
    fn peripheral_type(&self) -> u8 {
        u8::from(self.tape.is_some())
    }
    fn product(&self) -> &str {
        "MEMORY"
    }
    fn removable(&self) -> bool {
        false
    }
    fn versions(&self) -> &[u16] {
        &[]
    }
    fn commands(&self) -> &[CommandInfo] {
        &[]
    }
    fn execute(&self, _: &Unit, _: &Cdb, _: &Request<'_>) -> Answer {
        Err(Refusal::sense(SenseKey::IllegalRequest, 0x20, 0))
    }
    fn ready(&self) -> Result<(), Sense> {
        match self.slow.load(Ordering::Relaxed) {
            9999 => Err(Sense::new(SenseKey::NotReady, 0x3a, 0)),
            _ => Ok(()),
        }
    }
    fn write_protected(&self) -> bool {
        self.protected.load(Ordering::Relaxed)
    }
    fn select_header(&self, _: u8, _: Option<&[u8]>, _: bool) -> Result<(), Refusal> {
        Ok(())
    }
    fn copy_disk(&self) -> Option<&dyn CopyDisk> {
        self.disk.as_ref().map(|_| self as &dyn CopyDisk)
    }
    fn copy_tape(&self) -> Option<&dyn CopyTape> {
        self.tape.as_ref().map(|_| self as &dyn CopyTape)
    }
    fn flush(&self) -> crate::error::Result<()> {
        Ok(())
    }
}

/// A target of such units.
pub struct Bench {
    pub set: UnitSet,
    pub devices: Vec<Arc<Memory>>,
}

pub fn nexus(n: u16) -> Nexus {
    Nexus {
        initiator: format!("iqn.test:{n}").into(),
        isid: [0; 6],
        tsih: n,
    }
}

impl Bench {
    pub fn new(profile: &str, devices: Vec<Arc<Memory>>) -> Self {
        let manager = CopyManager::new(CopyProfile::parse(profile).unwrap());
        let manager: Arc<dyn ThirdPartyCopy> = Arc::new(manager);
        let named = devices
            .iter()
            .enumerate()
            .map(|(i, d)| (format!("u{i}"), d.clone() as Arc<dyn Device>))
            .collect();
        let set = UnitSet::new("iqn.test:target", named, Some(manager)).unwrap();
        Self { set, devices }
    }

    /// A session that has taken note of its unit attention on every unit.
    pub fn session(&self, n: u16) -> Nexus {
        let nexus = nexus(n);
        self.set.nexus_began(&nexus);
        for lun in 0..self.devices.len() {
            self.send(&nexus, lun as u16, &[0; 6], &[]);
        }
        nexus
    }

    pub fn send(&self, nexus: &Nexus, lun: u16, cdb: &[u8], data: &[u8]) -> Reply {
        self.send_with(nexus, lun, cdb, data, &AtomicBool::new(false))
    }

    pub fn send_with(
        &self,
        nexus: &Nexus,
        lun: u16,
        cdb: &[u8],
        data: &[u8],
        cancel: &AtomicBool,
    ) -> Reply {
        let request = Request {
            nexus,
            cdb,
            data_out: data,
            expected_out: data.len(),
            expected_in: 65_536,
            cancel,
        };
        self.set.execute(encode_lun(lun), &request)
    }

    pub fn copy(&self, nexus: &Nexus, list: &[u8]) -> Reply {
        self.send(nexus, 0, &copy_cdb(list.len()), list)
    }

    pub fn results(&self, nexus: &Nexus, action: u8, id: u8, allocation: u32) -> Reply {
        let mut cdb = [0; 16];
        (cdb[0], cdb[1], cdb[2]) = (0x84, action, id);
        cdb[10..14].copy_from_slice(&allocation.to_be_bytes());
        self.send(nexus, 0, &cdb, &[])
    }

    /// The E4h descriptor of a unit.
    pub fn cscd(&self, lun: usize, pad: bool, block: u32) -> Vec<u8> {
        let mut d = vec![0xe4, self.devices[lun].peripheral_type(), 0, 0, 1, 3, 0, 16];
        d.extend(self.set.units()[lun].identity().naa());
        d.resize(28, 0);
        d.extend(block.to_be_bytes());
        d[28] = u8::from(pad) << 2;
        d
    }
}

pub fn copy_cdb(length: usize) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = 0x83;
    cdb[10..14].copy_from_slice(&(length as u32).to_be_bytes());
    cdb
}

/// A parameter list.
pub fn list(id: u8, usage: u8, cscds: &[Vec<u8>], segments: &[Vec<u8>], inline: &[u8]) -> Vec<u8> {
    let (c, s) = (cscds.concat(), segments.concat());
    let mut out = vec![id, usage << 3 | 1];
    out.extend((c.len() as u16).to_be_bytes());
    out.extend([0; 4]);
    out.extend((s.len() as u32).to_be_bytes());
    out.extend((inline.len() as u32).to_be_bytes());
    out.extend(c);
    out.extend(s);
    out.extend(inline);
    out
}

/// Header of a segment descriptor; the body follows, and the length is filled in.
pub fn seg(code: u8, cat: bool, source: u16, destination: u16, body: &[&[u8]]) -> Vec<u8> {
    let mut d = vec![code, cat.into(), 0, 0];
    d.extend(source.to_be_bytes());
    d.extend(destination.to_be_bytes());
    d.extend(body.concat());
    let len = (d.len() - 4) as u16;
    d[2..4].copy_from_slice(&len.to_be_bytes());
    d
}

/// 00h, 01h, 0Bh, 0Ch.
pub fn stream(code: u8, cat: bool, from: u16, to: u16, stl: u32, blocks: u16, lba: u64) -> Vec<u8> {
    let (stl, blocks, lba) = (stl.to_be_bytes(), blocks.to_be_bytes(), lba.to_be_bytes());
    seg(code, cat, from, to, &[&stl, &[0, 0], &blocks, &lba])
}

/// 04h.
pub fn inline(cat: bool, to: u16, stl: u32, offset: u32, bytes: u32) -> Vec<u8> {
    let body = [stl, offset, bytes].map(u32::to_be_bytes).concat();
    seg(4, cat, 0, to, &[&body])
}

/// 06h, 0Fh.
pub fn discard(code: u8, cat: bool, from: u16, stl: u32, bytes: u32) -> Vec<u8> {
    let body = [stl, bytes].map(u32::to_be_bytes).concat();
    seg(code, cat, from, 0, &[&body])
}

/// 02h, 0Dh.
pub fn blocks(code: u8, flags: u8, from: u16, to: u16, n: u16, src: u64, dst: u64) -> Vec<u8> {
    let (n, src, dst) = (n.to_be_bytes(), src.to_be_bytes(), dst.to_be_bytes());
    let mut d = seg(code, false, from, to, &[&[0, 0], &n, &src, &dst]);
    d[1] = flags;
    d
}

/// 10h, 11h: byte 8 and a count; 12h: an object.
pub fn motion(code: u8, to: u16, word: u32) -> Vec<u8> {
    seg(code, false, 0, to, &[&word.to_be_bytes()])
}
