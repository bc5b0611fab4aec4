//! Log pages of a tape drive.

use super::super::common::{put, text};
use super::state::State;
use crate::tape::cartridge::Cartridge;

const WRITE_ERRORS: u8 = 0x02;
const READ_ERRORS: u8 = 0x03;
const SEQUENTIAL: u8 = 0x0c;
const VOLUME: u8 = 0x17;
const TAPE_ALERT: u8 = 0x2e;
const CAPACITY: u8 = 0x31;

/// Their codes.
pub const PAGES: &[u8] = &[
    WRITE_ERRORS,
    READ_ERRORS,
    SEQUENTIAL,
    VOLUME,
    TAPE_ALERT,
    CAPACITY,
];

/// Control bytes: a counter; a list in binary; a list in ASCII.
const COUNTER: u8 = 0x00;
const BINARY: u8 = 0x03;
const ASCII: u8 = 0x01;

/// Adds one parameter.
fn add(out: &mut Vec<u8>, code: u16, control: u8, value: &[u8]) {
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(&[control, value.len() as u8]);
    out.extend_from_slice(value);
}

/// In MiB, as these pages count.
fn mebibytes(bytes: u64) -> u32 {
    u32::try_from(bytes >> 20).unwrap_or(u32::MAX)
}

/// The parameters of a page.
pub fn page(s: &mut State, page: u8) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let c = s.counts;
    match page {
        WRITE_ERRORS => errors(&mut out, c.written, c.write_errors),
        READ_ERRORS => errors(&mut out, c.read, c.read_errors),
        SEQUENTIAL => {
            // From the host, to the medium, from the medium, to the host.
            for (code, n) in (0..).zip([c.written, c.written, c.read, c.read]) {
                add(&mut out, code, COUNTER, &n.to_be_bytes());
            }
            add(&mut out, 0x0100, COUNTER, &[0; 4]); // needs no cleaning
        }
        VOLUME => volume(&mut out, s.loaded()),
        TAPE_ALERT => {
            for flag in 1..=64u16 {
                let up = s.alerts >> (flag - 1) & 1;
                add(&mut out, flag, COUNTER, &[up as u8]);
            }
            s.alerts = 0;
        }
        CAPACITY => {
            let (left, all) = s
                .loaded()
                .map_or((0, 0), |m| (remaining(m), m.facts().capacity));
            // There is no alternate partition.
            for (code, n) in (1..).zip([left, 0, all, 0]) {
                add(&mut out, code, COUNTER, &mebibytes(n).to_be_bytes());
            }
        }
        _ => return None,
    }
    Some(out)
}

/// Bytes that still fit behind the end of data.
pub(super) fn remaining(c: &Cartridge) -> u64 {
    c.facts().capacity.saturating_sub(c.used())
}

/// Error counters 0000h to 0006h: bytes processed, and uncorrected errors.
fn errors(out: &mut Vec<u8>, bytes: u64, failed: u64) {
    for (code, n) in (0..).zip([0, 0, 0, 0, 0, bytes, failed]) {
        add(out, code, COUNTER, &n.to_be_bytes());
    }
}

fn volume(out: &mut Vec<u8>, c: Option<&Cartridge>) {
    add(out, 0x0000, BINARY, &[0, 0, 0, c.is_some().into()]); // page valid
    let Some(c) = c else {
        return;
    };
    let facts = c.facts();
    let loads = u32::try_from(facts.load_count).unwrap_or(u32::MAX);
    add(out, 0x0001, COUNTER, &loads.to_be_bytes());
    add(out, 0x0040, ASCII, &text(&facts.serial, 32));
    add(out, 0x0042, ASCII, &text(&facts.barcode, 32));
    add(
        out,
        0x0080,
        BINARY,
        &[0, 0, 0, c.is_write_protected().into()],
    );
    add(out, 0x0081, BINARY, &[0; 4]); // not WORM
    let left = remaining(c).saturating_sub(facts.early_warning);
    // Capacity of the one partition: all, used, left until early warning.
    for (code, n) in (0x0202..).zip([facts.capacity, c.used(), left]) {
        let mut record = [7, 0, 0, 0, 0, 0, 0, 0];
        let megabytes = u32::try_from(n / 1_000_000).unwrap_or(u32::MAX);
        put(&mut record, 4, 4, megabytes.into());
        add(out, code, BINARY, &record);
    }
}
