//! Floor 1: iSCSI (RFC 7143): units, negotiation, digests and CHAP, which both
//! ends of a session share; and the initiator.

pub mod chap;
mod initiator;
pub mod negotiate;
pub mod pdu;
pub mod text;
pub mod url;
pub mod wire;

pub use initiator::{FoundTarget, Initiator, Options, discover};
pub use url::{Url, is_url, without_secret};
pub use wire::Traffic;
