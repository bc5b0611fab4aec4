//! Commands of a session from arrival to end, and which of them may run at once.

use crate::iscsi::pdu::Attribute;
use crate::scsi::op;
use std::sync::atomic::AtomicBool;

/// How a command stands to others of its logical unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Looks at nothing that other commands change: never waits.
    AtOnce,
    /// Of a unit that works in order (a tape, a changer): tells its state. Waits
    /// for what moved or wrote before it, not for a copy.
    Status,
    /// Of such a unit: moves or writes.
    InOrder,
    /// Of a disk: may run beside others.
    Beside,
    /// EXTENDED COPY: one after another, beside the disk's other commands.
    Copy,
}

/// The class of a command block.
pub fn class(cdb: &[u8], in_order: bool) -> Class {
    let action = cdb.get(1).map_or(0, |b| b & 0x1f);
    match cdb.first().copied().unwrap_or(0) {
        op::EXTENDED_COPY if action == 0x1c => Class::AtOnce,
        op::EXTENDED_COPY => Class::Copy,
        op::RECEIVE_COPY_RESULTS | op::INQUIRY | op::REPORT_LUNS | op::REQUEST_SENSE => {
            Class::AtOnce
        }
        op::TEST_UNIT_READY
        | op::READ_POSITION
        | op::READ_BLOCK_LIMITS
        | op::MODE_SENSE_6
        | op::MODE_SENSE_10
        | op::LOG_SENSE
        | op::READ_ATTRIBUTE
        | op::REPORT_DENSITY_SUPPORT
        | op::PERSISTENT_RESERVE_IN
        | op::MAINTENANCE_IN
            if in_order =>
        {
            Class::Status
        }
        _ if in_order => Class::InOrder,
        _ => Class::Beside,
    }
}

/// Must a later command wait for an earlier one of the same logical unit?
pub fn waits(earlier: (Class, Attribute), later: (Class, Attribute)) -> bool {
    const ORDERED: u8 = 2;
    const HEAD_OF_QUEUE: u8 = 3;
    if earlier.0 == Class::AtOnce || later.0 == Class::AtOnce || later.1.0 == HEAD_OF_QUEUE {
        return false;
    }
    if earlier.1.0 == ORDERED || later.1.0 == ORDERED {
        return true;
    }
    !matches!(
        (earlier.0, later.0),
        (Class::Copy | Class::Status, Class::Status) | (Class::Beside, _) | (_, Class::Beside)
    )
}

/// Where a command stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its data is coming.
    Receiving,
    /// It waits for its turn.
    Ready,
    /// A worker has it.
    Running,
}

/// Who ended a command before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aborted {
    /// Its own initiator, who gets no response.
    BySelf,
    /// Another one: the response is TASK ABORTED.
    ByOther,
}

/// A command.
#[derive(Debug)]
pub struct Task {
    pub itt: u32,
    pub lun: u64,
    pub cdb: Vec<u8>,
    pub class: Class,
    pub attribute: Attribute,
    pub immediate: bool,
    /// Data that goes to the initiator at most.
    pub expected_in: usize,
    /// Data that the initiator means to send.
    pub expected_out: usize,
    /// Looked at by what takes long.
    pub cancel: AtomicBool,
}

/// A task's place in the list.
#[derive(Debug)]
pub struct Entry {
    pub task: std::sync::Arc<Task>,
    pub state: State,
    pub aborted: Option<Aborted>,
    pub data: Vec<u8>,
}

/// The commands of a session in the order in which they came.
#[derive(Debug, Default)]
pub struct Tasks {
    pub list: Vec<Entry>,
    /// Threads that have nothing to do.
    pub idle: usize,
    /// No command is taken any more, and workers end.
    pub stopping: bool,
}

impl Tasks {
    /// The place of a task.
    pub fn find(&mut self, itt: u32) -> Option<&mut Entry> {
        self.list.iter_mut().find(|e| e.task.itt == itt)
    }

    /// The next command that may run, with at most so many ordinary ones at once.
    pub fn runnable(&self, workers: usize) -> Option<usize> {
        let apart = |c: Class| matches!(c, Class::AtOnce | Class::Copy);
        let busy = self
            .list
            .iter()
            .filter(|e| e.state == State::Running && !apart(e.task.class))
            .count();
        self.list.iter().enumerate().position(|(i, e)| {
            e.state == State::Ready
                && (busy < workers || apart(e.task.class))
                && self.list.iter().take(i).all(|before| {
                    before.task.lun != e.task.lun
                        || !waits(
                            (before.task.class, before.task.attribute),
                            (e.task.class, e.task.attribute),
                        )
                })
        })
    }

    /// Bytes that commands hold.
    pub fn buffered(&self) -> usize {
        self.list.iter().map(|e| e.task.expected_out).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;

    const SIMPLE: Attribute = Attribute(1);

    fn entry(n: u32, lun: u64, cdb: &[u8], in_order: bool, attribute: u8) -> Entry {
        Entry {
            task: Arc::new(Task {
                itt: n,
                lun,
                cdb: cdb.to_vec(),
                class: class(cdb, in_order),
                attribute: Attribute(attribute),
                immediate: false,
                expected_in: 0,
                expected_out: 0,
                cancel: AtomicBool::new(false),
            }),
            state: State::Ready,
            aborted: None,
            data: Vec::new(),
        }
    }

    #[test]
    fn a_running_copy_holds_up_motion_but_no_questions() {
        let copy = (class(&[op::EXTENDED_COPY, 0], true), SIMPLE);
        for (cdb, waiting) in [
            (&[op::RECEIVE_COPY_RESULTS, 0][..], false),
            (&[op::EXTENDED_COPY, 0x1c], false),
            (&[op::READ_POSITION, 0], false),
            (&[op::TEST_UNIT_READY, 0], false),
            (&[op::EXTENDED_COPY, 0], true),
            (&[op::WRITE_6, 0], true),
            (&[op::WRITE_FILEMARKS_6, 0], true),
            (&[op::LOCATE_16, 0], true),
        ] {
            assert_eq!(
                waits(copy, (class(cdb, true), SIMPLE)),
                waiting,
                "{cdb:02x?}"
            );
        }
        let disk_copy = (class(&[op::EXTENDED_COPY, 0], false), SIMPLE);
        assert!(!waits(disk_copy, (class(&[op::READ_16, 0], false), SIMPLE)));
        assert!(waits(disk_copy, disk_copy));
    }

    #[test]
    fn a_position_is_told_behind_the_writes_before_it() {
        let write = (class(&[op::WRITE_6, 0], true), SIMPLE);
        let position = (class(&[op::READ_POSITION, 0], true), SIMPLE);
        assert!(waits(write, position));
        assert!(!waits(position, position));
    }

    #[test]
    fn attributes_are_honoured() {
        let disk = class(&[op::WRITE_10, 0], false);
        assert!(!waits((disk, SIMPLE), (disk, SIMPLE)));
        assert!(waits((disk, Attribute(2)), (disk, SIMPLE)));
        assert!(waits((disk, SIMPLE), (disk, Attribute(2))));
        assert!(!waits((disk, Attribute(2)), (disk, Attribute(3))));
    }

    #[test]
    fn what_is_still_coming_holds_its_place() {
        let mut t = Tasks::default();
        t.list.push(entry(1, 1, &[op::WRITE_6, 0], true, 1));
        t.list.push(entry(2, 1, &[op::WRITE_6, 0], true, 1));
        t.list.push(entry(3, 2, &[op::WRITE_6, 0], true, 1));
        t.list[0].state = State::Receiving;
        assert_eq!(t.runnable(8), Some(2));
        t.list[2].state = State::Running;
        assert_eq!(t.runnable(8), None);
        t.list[0].state = State::Ready;
        assert_eq!(t.runnable(8), Some(0));
        assert_eq!(t.runnable(1), None);
        t.list
            .push(entry(4, 1, &[op::RECEIVE_COPY_RESULTS, 0], true, 1));
        assert_eq!(t.runnable(1), Some(3));
    }

    proptest! {
        /// Whatever is queued, something can always run, and a tape's writes run in order.
        #[test]
        fn nothing_gets_stuck(list in proptest::collection::vec(
            (0u64..3, prop_oneof![Just(op::WRITE_6), Just(op::EXTENDED_COPY), Just(op::READ_POSITION),
             Just(op::READ_16), Just(op::INQUIRY)], any::<bool>(), 0u8..5), 1..40)) {
            let mut t = Tasks::default();
            for (n, (lun, code, in_order, attribute)) in list.iter().enumerate() {
                t.list.push(entry(n as u32, *lun, &[*code, 0], *in_order, *attribute));
            }
            let mut wrote = [None; 3];
            while !t.list.is_empty() {
                let at = t.runnable(1);
                prop_assert!(at.is_some());
                let e = t.list.remove(at.unwrap());
                if e.task.class == Class::InOrder && e.task.attribute == SIMPLE {
                    let last = &mut wrote[e.task.lun as usize];
                    prop_assert!(*last < Some(e.task.itt));
                    *last = Some(e.task.itt);
                }
            }
        }
    }
}
