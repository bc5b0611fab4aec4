//! Mode parameters of a tape drive: the block descriptor and the pages 0Fh, 10h
//! and 10h/01h.

use super::super::common::{ModePage, Refusal, be, byte, invalid_parameter, put};
use super::medium::DENSITY;
use super::state::State;

const COMPRESSION: u8 = 0x0f;
const CONFIGURATION: u8 = 0x10;
const EXTENSION: u8 = 0x01;

/// Offset of the size of the programmable early warning zone in the extension.
const ZONE: usize = 2;

/// The block descriptor.
pub fn descriptor(s: &State) -> Vec<u8> {
    let mut d = vec![0; 8];
    put(&mut d, 0, 1, DENSITY.into());
    put(&mut d, 5, 3, s.block_length.into());
    d
}

/// The pages.
pub fn pages(s: &State) -> Vec<ModePage> {
    // Nothing is compressed, and DCC says that it cannot be.
    let compression = ModePage::fixed(COMPRESSION, vec![0; 14]);
    let mut b = vec![0; 14];
    put(&mut b, 4, 2, 100); // write delay, in tenths of a second
    put(&mut b, 6, 1, 0x40); // LOIS: READ POSITION and LOCATE work
    put(&mut b, 8, 1, 0x10); // EEG
    let configuration = ModePage::fixed(CONFIGURATION, b);
    let with = |zone: u16| {
        let mut b = vec![0; 28];
        put(&mut b, ZONE, 2, zone.into());
        b
    };
    let extension = ModePage {
        page: CONFIGURATION,
        subpage: EXTENSION,
        current: with(s.warning_zone),
        changeable: with(u16::MAX),
        default: with(0),
    };
    vec![compression, configuration, extension]
}

/// Takes a page that MODE SELECT changed.
pub fn set(s: &mut State, page: u8, subpage: u8, body: &[u8]) {
    if (page, subpage) == (CONFIGURATION, EXTENSION) {
        s.set_warning_zone(be(body, ZONE, 2) as u16);
    }
}

/// Takes the device-specific byte and the block descriptor.
pub fn select(
    s: &mut State,
    specific: u8,
    descriptor: Option<&[u8]>,
    apply: bool,
) -> Result<(), Refusal> {
    // Buffered mode 0 or 1; there is one speed, 0.
    if specific & 0x6f != 0 {
        return Err(invalid_parameter(2));
    }
    if let Some(d) = descriptor {
        // Default density, no change, or the one there is; of the whole medium.
        if d.len() != 8 || ![0x00, 0x7f, DENSITY].contains(&byte(d, 0)) {
            return Err(invalid_parameter(4));
        }
        if be(d, 1, 3) != 0 {
            return Err(invalid_parameter(5));
        }
        if apply {
            s.block_length = be(d, 5, 3) as u32;
        }
    }
    if apply {
        s.unbuffered = specific & 0x10 == 0;
    }
    Ok(())
}
