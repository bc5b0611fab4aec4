//! The drive as a device: which commands it has, and what the frames of
//! `common` ask of it.

use super::super::common::{
    Access, Answer, Attentions, Cdb, CommandInfo, Device, ModePage, Refusal, Unit,
};
use super::state::no_medium;
use super::{TapeDrive, attribute, log, medium, mode, motion, transfer};
use crate::error::Result;
use crate::scsi::{Sense, SenseKey, op};
use crate::target::{Nexus, Request};
use std::sync::Arc;

const COMMANDS: &[CommandInfo] = {
    use Access::*;
    use CommandInfo as C;
    &[
        C::new(&[0x01, 0x01, 0, 0, 0, 0x04], Control),
        C::new(&[0x05, 0x01, 0, 0, 0, 0x04], Status),
        C::new(&[0x08, 0x03, 0xff, 0xff, 0xff, 0x04], Read),
        C::new(&[0x0a, 0x01, 0xff, 0xff, 0xff, 0x04], Write),
        C::new(&[0x10, 0x01, 0xff, 0xff, 0xff, 0x04], Write),
        C::new(&[0x11, 0x0f, 0xff, 0xff, 0xff, 0x04], Control),
        C::new(&[0x19, 0x03, 0, 0, 0, 0x04], Write),
        C::new(&[0x1b, 0x01, 0, 0, 0x0f, 0x04], Control),
        C::new(&[0x1e, 0, 0, 0, 0x03, 0x04], Control),
        C::new(
            &[0x2b, 0x07, 0, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0x04],
            Control,
        ),
        C::action(0, &[0x34, 0x00, 0, 0, 0, 0, 0, 0, 0, 0x04], Status),
        C::action(1, &[0x34, 0x01, 0, 0, 0, 0, 0, 0, 0, 0x04], Status),
        C::action(6, &[0x34, 0x06, 0, 0, 0, 0, 0, 0, 0, 0x04], Status),
        C::action(8, &[0x34, 0x08, 0, 0, 0, 0, 0, 0xff, 0xff, 0x04], Status),
        C::new(&[0x44, 0x03, 0, 0, 0, 0, 0, 0xff, 0xff, 0x04], Status),
        C::action(0, &READ_ATTRIBUTE[0], Read),
        C::action(1, &READ_ATTRIBUTE[1], Read),
        C::action(2, &READ_ATTRIBUTE[2], Read),
        C::action(3, &READ_ATTRIBUTE[3], Read),
        C::action(5, &READ_ATTRIBUTE[5], Read),
        C::new(
            &[
                0x8d, 0x01, 0, 0, 0, 0xff, 0, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0x04,
            ],
            Write,
        ),
        C::new(
            &[
                0x91, 0x0f, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0,
                0x04,
            ],
            Control,
        ),
        C::new(
            &[
                0x92, 0x1b, 0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0,
                0x04,
            ],
            Control,
        ),
    ]
};

const READ_ATTRIBUTE: [[u8; 16]; 6] = {
    let mut all = [[
        0x8c, 0, 0, 0, 0, 0xff, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0x04,
    ]; 6];
    let mut i = 0;
    while i < 6 {
        all[i][1] = i as u8;
        i += 1;
    }
    all
};

impl Device for TapeDrive {
    fn peripheral_type(&self) -> u8 {
        0x01
    }

    fn product(&self) -> &str {
        "VIRTUAL TAPE"
    }

    fn removable(&self) -> bool {
        true
    }

    fn versions(&self) -> &[u16] {
        &[0x0400] // SSC-3
    }

    fn commands(&self) -> &[CommandInfo] {
        COMMANDS
    }

    fn execute(&self, unit: &Unit, cdb: &Cdb, request: &Request<'_>) -> Answer {
        let s = &mut *self.state();
        match cdb.opcode() {
            op::REWIND => motion::rewind(s),
            op::READ_BLOCK_LIMITS => medium::block_limits(cdb),
            op::READ_6 => transfer::read(s, unit, cdb),
            op::WRITE_6 => transfer::write(s, unit, cdb, request.data_out),
            op::WRITE_FILEMARKS_6 => transfer::write_filemarks(s, unit, cdb),
            op::SPACE_6 | op::SPACE_16 => motion::space(s, cdb),
            op::ERASE_6 => transfer::erase(s),
            op::LOAD_UNLOAD => {
                let loaded = motion::load_unload(s, cdb)?;
                if loaded && let Some(a) = self.attentions.get() {
                    let others = |n: &Nexus| n != request.nexus;
                    a.raise(super::MEDIUM_CHANGED, others);
                }
                Ok(crate::target::Reply::good())
            }
            op::PREVENT_ALLOW_MEDIUM_REMOVAL => motion::prevent(s, cdb, request.nexus),
            op::LOCATE_10 | op::LOCATE_16 => motion::locate(s, cdb),
            op::READ_POSITION => motion::read_position(s, cdb),
            op::REPORT_DENSITY_SUPPORT => medium::densities(s, cdb),
            op::READ_ATTRIBUTE => attribute::read(s, cdb),
            op::WRITE_ATTRIBUTE => attribute::write(s, cdb, request.data_out),
            _ => Err(Refusal::sense(SenseKey::IllegalRequest, 0x20, 0x00)),
        }
    }

    fn ready(&self) -> Result<(), Sense> {
        match self.state().is_loaded() {
            true => Ok(()),
            false => Err(no_medium()),
        }
    }

    fn write_protected(&self) -> bool {
        self.state()
            .loaded()
            .is_some_and(|c| c.is_write_protected())
    }

    fn vpd_pages(&self) -> &[u8] {
        &[0xb0]
    }

    fn vpd(&self, _unit: &Unit, _page: u8) -> Option<Vec<u8>> {
        Some(vec![0; 2]) // sequential-access capabilities: not WORM
    }

    fn mode_pages(&self) -> Vec<ModePage> {
        mode::pages(&self.state())
    }

    fn set_mode_page(&self, page: u8, subpage: u8, body: &[u8]) -> Result<(), Refusal> {
        mode::set(&mut self.state(), page, subpage, body);
        Ok(())
    }

    fn mode_header(&self) -> u8 {
        match self.state().unbuffered {
            true => 0x00,
            false => 0x10,
        }
    }

    fn block_descriptor(&self, long: bool) -> Vec<u8> {
        match long {
            true => Vec::new(), // only disks have the long form
            false => mode::descriptor(&self.state()),
        }
    }

    fn select_header(
        &self,
        specific: u8,
        descriptor: Option<&[u8]>,
        apply: bool,
    ) -> Result<(), Refusal> {
        mode::select(&mut self.state(), specific, descriptor, apply)
    }

    fn log_pages(&self) -> &[u8] {
        log::PAGES
    }

    fn log_page(&self, _unit: &Unit, page: u8) -> Option<Vec<u8>> {
        log::page(&mut self.state(), page)
    }

    fn installed(&self, attentions: &Arc<Attentions>) {
        let _ = self.attentions.set(attentions.clone());
    }

    fn nexus_lost(&self, nexus: &Nexus) {
        self.state().preventing.remove(nexus);
    }

    fn reset(&self) {
        self.state().reset();
    }

    fn copy_tape(&self) -> Option<&dyn crate::target::copy::CopyTape> {
        Some(self)
    }

    fn flush(&self) -> Result<()> {
        self.state().flush()
    }
}
