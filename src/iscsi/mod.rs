//! Floor 1: iSCSI: PDUs, negotiation, digests, CHAP, and the initiator, which is
//! a `scsi` transport.
