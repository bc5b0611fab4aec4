//! Floor 2: tape: cartridges, labels, sets, and the drive that moves them.
//! `docs/tape.md` is the definition of what stands on one.

pub mod cartridge;
