//! The header of each kind of unit, field by field with its byte offset.

use super::{BHS, Bhs, Field, Header};

macro_rules! headers {
    ($(
        $(#[$doc:meta])*
        $name:ident $text:literal = $op:literal {
            bits { $( $(#[$bdoc:meta])* $bit:ident = $byte:literal & $mask:literal; )* }
            fields { $( $(#[$fdoc:meta])* $field:ident: $ty:ty = $at:literal; )* }
        }
    )*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, Default, PartialEq, Eq)]
            pub struct $name {
                $( $(#[$bdoc])* pub $bit: bool, )*
                $( $(#[$fdoc])* pub $field: $ty, )*
            }

            impl Header for $name {
                const OPCODE: u8 = $op;

                fn decode(bhs: &Bhs) -> Self {
                    Self {
                        $( $bit: bhs.0[$byte] & $mask != 0, )*
                        $( $field: Field::get(&bhs.0, $at), )*
                    }
                }

                #[allow(clippy::needless_update)]
                fn encode(&self) -> Bhs {
                    let mut b = [0u8; BHS];
                    $( self.$field.put(&mut b, $at); )*
                    b[0] |= $op;
                    $( if self.$bit { b[$byte] |= $mask; } )*
                    Bhs(b)
                }
            }
        )*

        /// The name of an operation code.
        pub fn name_of(opcode: u8) -> &'static str {
            match opcode {
                $( $op => $text, )*
                _ => "Unknown",
            }
        }

        #[cfg(test)]
        pub(crate) fn recode(bhs: &Bhs) -> Option<Bhs> {
            match bhs.opcode() {
                $( $op => {
                    let once = $name::decode(bhs);
                    let again = once.encode();
                    assert_eq!($name::decode(&again), once);
                    Some(again)
                } )*
                _ => None,
            }
        }
    };
}

headers! {
    /// NOP-Out.
    NopOut "NOP-Out" = 0x00 {
        bits {
            /// For immediate delivery.
            immediate = 0 & 0x40;
            /// Always set.
            last = 1 & 0x80;
        }
        fields {
            /// Logical unit, with a target transfer tag.
            lun: u64 = 8;
            /// Initiator task tag; none when no answer is wanted.
            itt: u32 = 16;
            /// Target transfer tag of the NOP-In it answers.
            ttt: u32 = 20;
            /// Command number.
            cmd_sn: u32 = 24;
            /// Status number expected next.
            exp_stat_sn: u32 = 28;
        }
    }

    /// SCSI Command.
    ScsiCommand "SCSI Command" = 0x01 {
        bits {
            /// For immediate delivery.
            immediate = 0 & 0x40;
            /// No unsolicited Data-Out follows.
            last = 1 & 0x80;
            /// Data moves to the initiator.
            read = 1 & 0x40;
            /// Data moves to the target.
            write = 1 & 0x20;
        }
        fields {
            /// Byte 1: its low three bits are the task attribute.
            flags: Attribute = 1;
            /// Logical unit.
            lun: u64 = 8;
            /// Initiator task tag.
            itt: u32 = 16;
            /// Expected data transfer length.
            expected: u32 = 20;
            /// Command number.
            cmd_sn: u32 = 24;
            /// Status number expected next.
            exp_stat_sn: u32 = 28;
            /// Command block.
            cdb: [u8; 16] = 32;
        }
    }

    /// Task Management Function Request.
    TaskManagement "Task Management Request" = 0x02 {
        bits {
            /// For immediate delivery.
            immediate = 0 & 0x40;
            /// Always set.
            last = 1 & 0x80;
        }
        fields {
            /// Which function.
            function: Function = 1;
            /// Logical unit.
            lun: u64 = 8;
            /// Initiator task tag.
            itt: u32 = 16;
            /// Tag of the task to abort.
            referenced: u32 = 20;
            /// Command number.
            cmd_sn: u32 = 24;
            /// Status number expected next.
            exp_stat_sn: u32 = 28;
            /// Command number of the task to abort.
            ref_cmd_sn: u32 = 32;
        }
    }

    /// Login Request.
    LoginRequest "Login Request" = 0x03 {
        bits {
            /// For immediate delivery: always set.
            immediate = 0 & 0x40;
            /// Ready for the next stage.
            transit = 1 & 0x80;
            /// The text goes on in the next request.
            more = 1 & 0x40;
        }
        fields {
            /// Current and next stage.
            stages: Stages = 1;
            /// Highest version spoken.
            version_max: u8 = 2;
            /// Lowest version spoken.
            version_min: u8 = 3;
            /// Initiator session id.
            isid: [u8; 6] = 8;
            /// Target session handle, 0 for a new session.
            tsih: u16 = 14;
            /// Initiator task tag.
            itt: u32 = 16;
            /// Connection id.
            cid: u16 = 20;
            /// First command number.
            cmd_sn: u32 = 24;
            /// Status number expected next.
            exp_stat_sn: u32 = 28;
        }
    }

    /// Text Request.
    TextRequest "Text Request" = 0x04 {
        bits {
            /// For immediate delivery.
            immediate = 0 & 0x40;
            /// The whole request.
            last = 1 & 0x80;
            /// The text goes on in the next request.
            more = 1 & 0x40;
        }
        fields {
            /// Logical unit, with a target transfer tag.
            lun: u64 = 8;
            /// Initiator task tag.
            itt: u32 = 16;
            /// Target transfer tag of the answer it continues.
            ttt: u32 = 20;
            /// Command number.
            cmd_sn: u32 = 24;
            /// Status number expected next.
            exp_stat_sn: u32 = 28;
        }
    }

    /// Data-Out.
    DataOut "Data-Out" = 0x05 {
        bits {
            /// Last of its sequence.
            last = 1 & 0x80;
        }
        fields {
            /// Logical unit, with a target transfer tag.
            lun: u64 = 8;
            /// Initiator task tag.
            itt: u32 = 16;
            /// Target transfer tag of the R2T; none when unsolicited.
            ttt: u32 = 20;
            /// Status number expected next.
            exp_stat_sn: u32 = 28;
            /// Place in its sequence.
            data_sn: u32 = 36;
            /// Place of the bytes in the command's data.
            offset: u32 = 40;
        }
    }

    /// Logout Request.
    LogoutRequest "Logout Request" = 0x06 {
        bits {
            /// For immediate delivery.
            immediate = 0 & 0x40;
            /// Always set.
            last = 1 & 0x80;
        }
        fields {
            /// 0 the session, 1 the connection, 2 for recovery.
            reason: Low7 = 1;
            /// Initiator task tag.
            itt: u32 = 16;
            /// Connection id.
            cid: u16 = 20;
            /// Command number.
            cmd_sn: u32 = 24;
            /// Status number expected next.
            exp_stat_sn: u32 = 28;
        }
    }

    /// SNACK Request.
    Snack "SNACK Request" = 0x10 {
        bits {
            /// Always set.
            last = 1 & 0x80;
        }
        fields {
            /// Which numbers are missing.
            kind: Attribute = 1;
            /// Logical unit.
            lun: u64 = 8;
            /// Initiator task tag.
            itt: u32 = 16;
            /// Target transfer tag.
            ttt: u32 = 20;
            /// Status number expected next.
            exp_stat_sn: u32 = 28;
            /// First missing number.
            begin: u32 = 40;
            /// How many.
            run: u32 = 44;
        }
    }

    /// NOP-In.
    NopIn "NOP-In" = 0x20 {
        bits {
            /// Always set.
            last = 1 & 0x80;
        }
        fields {
            /// Logical unit, with a target transfer tag.
            lun: u64 = 8;
            /// Initiator task tag of the NOP-Out it answers.
            itt: u32 = 16;
            /// Target transfer tag, when an answer is wanted.
            ttt: u32 = 20;
            /// Status number.
            stat_sn: u32 = 24;
            /// Command number expected next.
            exp_cmd_sn: u32 = 28;
            /// Highest command number taken.
            max_cmd_sn: u32 = 32;
        }
    }

    /// SCSI Response.
    ScsiResponse "SCSI Response" = 0x21 {
        bits {
            /// Always set.
            last = 1 & 0x80;
            /// Residual overflow.
            overflow = 1 & 0x04;
            /// Residual underflow.
            underflow = 1 & 0x02;
        }
        fields {
            /// 0: the target completed the command; else it failed.
            response: u8 = 2;
            /// SCSI status.
            status: u8 = 3;
            /// Initiator task tag.
            itt: u32 = 16;
            /// SNACK tag.
            snack: u32 = 20;
            /// Status number.
            stat_sn: u32 = 24;
            /// Command number expected next.
            exp_cmd_sn: u32 = 28;
            /// Highest command number taken.
            max_cmd_sn: u32 = 32;
            /// Data-In and R2T units sent for the command.
            exp_data_sn: u32 = 36;
            /// Residual count of the other direction.
            bidi_residual: u32 = 40;
            /// Residual count.
            residual: u32 = 44;
        }
    }

    /// Task Management Function Response.
    TaskManagementResponse "Task Management Response" = 0x22 {
        bits {
            /// Always set.
            last = 1 & 0x80;
        }
        fields {
            /// 0 complete, 1 no task, 2 no unit, 5 not supported, 255 rejected.
            response: u8 = 2;
            /// Initiator task tag.
            itt: u32 = 16;
            /// Status number.
            stat_sn: u32 = 24;
            /// Command number expected next.
            exp_cmd_sn: u32 = 28;
            /// Highest command number taken.
            max_cmd_sn: u32 = 32;
        }
    }

    /// Login Response.
    LoginResponse "Login Response" = 0x23 {
        bits {
            /// Goes to the next stage.
            transit = 1 & 0x80;
            /// The text goes on in the next response.
            more = 1 & 0x40;
        }
        fields {
            /// Current and next stage.
            stages: Stages = 1;
            /// Highest version spoken.
            version_max: u8 = 2;
            /// Version in use.
            version_active: u8 = 3;
            /// Initiator session id.
            isid: [u8; 6] = 8;
            /// Target session handle.
            tsih: u16 = 14;
            /// Initiator task tag.
            itt: u32 = 16;
            /// Status number.
            stat_sn: u32 = 24;
            /// Command number expected next.
            exp_cmd_sn: u32 = 28;
            /// Highest command number taken.
            max_cmd_sn: u32 = 32;
            /// Status: class in the high byte, detail in the low one.
            status: u16 = 36;
        }
    }

    /// Text Response.
    TextResponse "Text Response" = 0x24 {
        bits {
            /// The whole answer.
            last = 1 & 0x80;
            /// The text goes on in the next response.
            more = 1 & 0x40;
        }
        fields {
            /// Logical unit, with a target transfer tag.
            lun: u64 = 8;
            /// Initiator task tag.
            itt: u32 = 16;
            /// Target transfer tag, when there is more.
            ttt: u32 = 20;
            /// Status number.
            stat_sn: u32 = 24;
            /// Command number expected next.
            exp_cmd_sn: u32 = 28;
            /// Highest command number taken.
            max_cmd_sn: u32 = 32;
        }
    }

    /// Data-In.
    DataIn "Data-In" = 0x25 {
        bits {
            /// Last of its sequence.
            last = 1 & 0x80;
            /// An acknowledgement is wanted.
            acknowledge = 1 & 0x40;
            /// Residual overflow.
            overflow = 1 & 0x04;
            /// Residual underflow.
            underflow = 1 & 0x02;
            /// Status, residual and status number are here.
            with_status = 1 & 0x01;
        }
        fields {
            /// SCSI status.
            status: u8 = 3;
            /// Logical unit, with a target transfer tag.
            lun: u64 = 8;
            /// Initiator task tag.
            itt: u32 = 16;
            /// Target transfer tag.
            ttt: u32 = 20;
            /// Status number.
            stat_sn: u32 = 24;
            /// Command number expected next.
            exp_cmd_sn: u32 = 28;
            /// Highest command number taken.
            max_cmd_sn: u32 = 32;
            /// Place among the units of the command.
            data_sn: u32 = 36;
            /// Place of the bytes in the command's data.
            offset: u32 = 40;
            /// Residual count.
            residual: u32 = 44;
        }
    }

    /// Logout Response.
    LogoutResponse "Logout Response" = 0x26 {
        bits {
            /// Always set.
            last = 1 & 0x80;
        }
        fields {
            /// 0 done, 1 no such connection, 2 no recovery here.
            response: u8 = 2;
            /// Initiator task tag.
            itt: u32 = 16;
            /// Status number.
            stat_sn: u32 = 24;
            /// Command number expected next.
            exp_cmd_sn: u32 = 28;
            /// Highest command number taken.
            max_cmd_sn: u32 = 32;
            /// Seconds to wait before another login.
            time2wait: u16 = 40;
            /// Seconds for which tasks are kept.
            time2retain: u16 = 42;
        }
    }

    /// Ready To Transfer.
    R2t "Ready To Transfer" = 0x31 {
        bits {
            /// Always set.
            last = 1 & 0x80;
        }
        fields {
            /// Logical unit.
            lun: u64 = 8;
            /// Initiator task tag.
            itt: u32 = 16;
            /// Target transfer tag.
            ttt: u32 = 20;
            /// Status number, not counted on.
            stat_sn: u32 = 24;
            /// Command number expected next.
            exp_cmd_sn: u32 = 28;
            /// Highest command number taken.
            max_cmd_sn: u32 = 32;
            /// Place among the units of the command.
            r2t_sn: u32 = 36;
            /// First byte wanted.
            offset: u32 = 40;
            /// Bytes wanted.
            length: u32 = 44;
        }
    }

    /// Asynchronous Message.
    AsyncMessage "Asynchronous Message" = 0x32 {
        bits {
            /// Always set.
            last = 1 & 0x80;
        }
        fields {
            /// Logical unit.
            lun: u64 = 8;
            /// Initiator task tag: none.
            itt: u32 = 16;
            /// Status number.
            stat_sn: u32 = 24;
            /// Command number expected next.
            exp_cmd_sn: u32 = 28;
            /// Highest command number taken.
            max_cmd_sn: u32 = 32;
            /// 0 sense data, 1 logout wanted, 2 connection, 3 all connections go,
            /// 4 negotiate anew.
            event: u8 = 36;
            /// Vendor code.
            vendor: u8 = 37;
            /// First parameter.
            parameter1: u16 = 38;
            /// Second parameter: seconds before another login.
            parameter2: u16 = 40;
            /// Third parameter: seconds for which tasks are kept.
            parameter3: u16 = 42;
        }
    }

    /// Reject.
    Reject "Reject" = 0x3f {
        bits {
            /// Always set.
            last = 1 & 0x80;
        }
        fields {
            /// Why: 2 data digest, 4 protocol error, 5 not supported, 9 invalid field.
            reason: u8 = 2;
            /// Initiator task tag: none.
            itt: u32 = 16;
            /// Status number.
            stat_sn: u32 = 24;
            /// Command number expected next.
            exp_cmd_sn: u32 = 28;
            /// Highest command number taken.
            max_cmd_sn: u32 = 32;
            /// Data number, with reason 1.
            data_sn: u32 = 36;
        }
    }
}

macro_rules! part_of_byte {
    ($( $(#[$doc:meta])* $name:ident & $mask:literal; )*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name(pub u8);

        impl Field for $name {
            fn get(b: &[u8; BHS], at: usize) -> Self {
                Self(b[at] & $mask)
            }
            fn put(self, b: &mut [u8; BHS], at: usize) {
                b[at] |= self.0 & $mask;
            }
        }
    )* };
}

part_of_byte! {
    /// Task attribute: 0 untagged, 1 SIMPLE, 2 ORDERED, 3 HEAD OF QUEUE, 4 ACA.
    Attribute & 0x07;
    /// Task management function: 1 ABORT TASK, 2 ABORT TASK SET, 3 CLEAR ACA,
    /// 4 CLEAR TASK SET, 5 LOGICAL UNIT RESET, 6 TARGET WARM RESET,
    /// 7 TARGET COLD RESET, 8 TASK REASSIGN.
    Function & 0x7f;
    /// A code in the low seven bits.
    Low7 & 0x7f;
    /// Stages of a login: current in bits 3-2, next in bits 1-0.
    Stages & 0x0f;
}

impl Stages {
    /// SecurityNegotiation.
    pub const SECURITY: u8 = 0;
    /// LoginOperationalNegotiation.
    pub const OPERATIONAL: u8 = 1;
    /// FullFeaturePhase.
    pub const FULL: u8 = 3;

    /// From the two stages.
    pub fn of(current: u8, next: u8) -> Self {
        Self((current & 3) << 2 | next & 3)
    }

    /// Current stage.
    pub fn current(self) -> u8 {
        self.0 >> 2 & 3
    }

    /// Next stage.
    pub fn next(self) -> u8 {
        self.0 & 3
    }
}
