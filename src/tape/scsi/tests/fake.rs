//! A small tape.

use super::super::*;
use crate::scsi::Sense;
use crate::scsi::double::{Reply, Sent};
use crate::tape::memory::Objects;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Character {
    Standard,
    /// LOCATE(10) alone, READ POSITION short alone.
    Old,
    /// Tells where it stands, but has no LOCATE.
    NoLocate,
    /// No LOCATE, no positions, other sense.
    Tgt,
}

/// A tape, as its unit answers.
pub struct Fake {
    pub character: Character,
    pub objects: Objects,
    pub at: usize,
    pub block_len: u32,
    pub buffered: bool,
    pub prevented: bool,
}

pub fn sense(key: SenseKey, asc: u8, ascq: u8) -> Sense {
    Sense::new(key, asc, ascq)
}

pub fn no_sense(ascq: u8) -> Sense {
    sense(SenseKey::NoSense, 0, ascq)
}

fn refused() -> Reply {
    Reply::check(sense(SenseKey::IllegalRequest, 0x20, 0))
}

impl Fake {
    pub fn answer(&mut self, sent: &Sent) -> Reply {
        let c = &sent.cdb;
        let n24 = u32::from_be_bytes([0, c[2], c[3], c[4]]);
        match c[0] {
            op::TEST_UNIT_READY | op::LOAD_UNLOAD => Reply::good(),
            op::PREVENT_ALLOW_MEDIUM_REMOVAL => {
                self.prevented = c[4] & 1 != 0;
                Reply::good()
            }
            op::INQUIRY if c[1] == 0 => {
                let mut b = vec![1, 0x80, 5, 2, 31, 0, 0, 0];
                b.extend(b"MAKER   MODEL           0001");
                Reply::data(b)
            }
            op::READ_BLOCK_LIMITS => Reply::data([9, 0x10, 0, 0, 0, 4]),
            op::MODE_SENSE_10 => {
                let [_, x, y, z] = self.block_len.to_be_bytes();
                let buffered = u8::from(self.buffered) << 4;
                Reply::data([0, 14, 0, buffered, 0, 0, 0, 8, 0x5c, 0, 0, 0, 0, x, y, z])
            }
            op::MODE_SELECT_6 => {
                assert_eq!(sent.out[4], 0x5c, "the density stays");
                self.buffered = sent.out[2] & 0x70 == 0x10;
                self.block_len = u32::from_be_bytes([0, sent.out[9], sent.out[10], sent.out[11]]);
                Reply::good()
            }
            op::REWIND => {
                self.at = 0;
                Reply::good()
            }
            op::READ_6 => self.read(n24 as usize),
            op::WRITE_6 => {
                assert_eq!((self.block_len, self.buffered), (0, true));
                assert_eq!(sent.out.len(), n24 as usize);
                self.objects.truncate(self.at);
                self.objects.push(Some(sent.out.clone().into()));
                self.at += 1;
                Reply::good()
            }
            op::WRITE_FILEMARKS_6 => {
                if n24 > 0 {
                    self.objects.truncate(self.at);
                }
                for _ in 0..n24 {
                    self.objects.push(None);
                    self.at += 1;
                }
                Reply::good()
            }
            op::SPACE_6 => self.space(c[1], (n24 as i32) << 8 >> 8),
            op::LOCATE_16 if self.character == Character::Standard => {
                self.locate(u64::from_be_bytes(c[4..12].try_into().unwrap()))
            }
            op::LOCATE_10 if self.character == Character::Old => {
                self.locate(u32::from_be_bytes(c[3..7].try_into().unwrap()).into())
            }
            op::READ_POSITION => match (c[1], self.character) {
                (6, Character::Tgt) => Reply::data([[0x20].as_slice(), &[0; 31]].concat()),
                (0, Character::Tgt) => Reply::data([[0x14].as_slice(), &[0; 19]].concat()),
                (6, Character::Standard | Character::NoLocate) => self.long(),
                (0, Character::Old) => {
                    let mut b = vec![if self.at == 0 { 0x80 } else { 0 }, 0, 0, 0];
                    b.extend((self.at as u32).to_be_bytes());
                    b.resize(20, 0);
                    Reply::data(b)
                }
                _ => Reply::check(sense(SenseKey::IllegalRequest, 0x24, 0)),
            },
            _ => refused(),
        }
    }

    fn long(&self) -> Reply {
        let marks = self.objects[..self.at].iter().filter(|o| o.is_none());
        let mut b = vec![if self.at == 0 { 0x80 } else { 0 }, 0, 0, 0, 0, 0, 0, 0];
        b.extend((self.at as u64).to_be_bytes());
        b.extend((marks.count() as u64).to_be_bytes());
        b.resize(32, 0);
        Reply::data(b)
    }

    fn read(&mut self, asked: usize) -> Reply {
        let Some(object) = self.objects.get(self.at) else {
            let mut s = sense(SenseKey::BlankCheck, 0, 5);
            if self.character == Character::Tgt {
                (s.ascq, s.eom) = (0, true);
            }
            return Reply::check(s);
        };
        self.at += 1;
        let Some(block) = object else {
            let mut s = no_sense(1);
            s.filemark = true;
            return Reply::check(s.with_information(asked as i64));
        };
        let mut data = block[..block.len().min(asked)].to_vec();
        if block.len() == asked {
            return Reply::data(data);
        }
        if self.character == Character::Tgt && block.len() < asked {
            // It gives the length of the block as the residual.
            data.resize(asked - block.len(), 0);
        }
        let mut s = no_sense(0);
        s.ili = true;
        let s = s.with_information(asked as i64 - block.len() as i64);
        Reply {
            data,
            ..Reply::check(s)
        }
    }

    fn space(&mut self, code: u8, count: i32) -> Reply {
        let end = self.objects.len();
        if code == 3 {
            self.at = end;
            return Reply::good();
        }
        assert_eq!(code, 1, "only filemarks and the end are gone to");
        for _ in 0..count.unsigned_abs() {
            let found = match count > 0 {
                true => (self.at..end)
                    .find(|&i| self.objects[i].is_none())
                    .map(|i| i + 1),
                false => (0..self.at).rev().find(|&i| self.objects[i].is_none()),
            };
            let Some(to) = found else {
                self.at = if count > 0 { end } else { 0 };
                let mut s = match (count > 0, self.character) {
                    (true, Character::Tgt) => no_sense(5),
                    (true, _) => sense(SenseKey::BlankCheck, 0, 5),
                    (false, _) => no_sense(4),
                };
                s.eom = count < 0;
                return Reply::check(s);
            };
            self.at = to;
        }
        Reply::good()
    }

    fn locate(&mut self, object: u64) -> Reply {
        if object > self.objects.len() as u64 {
            self.at = self.objects.len();
            return Reply::check(sense(SenseKey::BlankCheck, 0, 5));
        }
        self.at = object as usize;
        Reply::good()
    }
}
