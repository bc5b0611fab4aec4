//! Task management: what ends commands before their time.

use super::Session;
use super::task::{Aborted, Task};
use crate::iscsi::pdu::{Header, Pdu, TaskManagement, TaskManagementResponse};
use std::sync::Arc;
use std::sync::atomic::Ordering;

const ABORT_TASK: u8 = 1;
const ABORT_TASK_SET: u8 = 2;
const CLEAR_TASK_SET: u8 = 4;
const LOGICAL_UNIT_RESET: u8 = 5;
const TARGET_WARM_RESET: u8 = 6;
const TARGET_COLD_RESET: u8 = 7;
const TASK_REASSIGN: u8 = 8;

const COMPLETE: u8 = 0;
const NO_TASK: u8 = 1;
const NO_UNIT: u8 = 2;
const NO_REASSIGN: u8 = 4;
const NOT_SUPPORTED: u8 = 5;
const REJECTED: u8 = 255;

/// Functions of a session that wait for their tasks at once.
const MOST: usize = 16;

/// Answers a request; what has to wait, waits in a thread of its own.
pub fn request(session: &Arc<Session>, r: &TaskManagement) {
    let function = r.function.0;
    let unit_given = matches!(
        function,
        ABORT_TASK | ABORT_TASK_SET | CLEAR_TASK_SET | LOGICAL_UNIT_RESET
    );
    let code = match function {
        TASK_REASSIGN => NO_REASSIGN,
        ABORT_TASK | ABORT_TASK_SET | CLEAR_TASK_SET | LOGICAL_UNIT_RESET | TARGET_WARM_RESET
        | TARGET_COLD_RESET => COMPLETE,
        _ => NOT_SUPPORTED,
    };
    if code != COMPLETE {
        return answer(session, r.itt, code);
    }
    if unit_given && !session.units().has(r.lun) {
        return answer(session, r.itt, NO_UNIT);
    }
    if function == ABORT_TASK {
        let mut tasks = super::lock(&session.tasks);
        let known = tasks
            .find(r.referenced)
            .is_some_and(|e| e.task.lun == r.lun);
        drop(tasks);
        if !known {
            return answer(session, r.itt, NO_TASK);
        }
    }
    if session.managing.fetch_add(1, Ordering::SeqCst) >= MOST {
        session.managing.fetch_sub(1, Ordering::SeqCst);
        return answer(session, r.itt, REJECTED);
    }
    let ours = affect(session, r, Aborted::BySelf);
    let mut others = Vec::new();
    if !matches!(function, ABORT_TASK | ABORT_TASK_SET) {
        for other in session.shared.sessions() {
            if !Arc::ptr_eq(&other, session) {
                let running = affect(&other, r, Aborted::ByOther);
                others.push((other, running));
            }
        }
    }
    let (of_thread, itt, lun) = (Arc::clone(session), r.itt, r.lun);
    let finish = move || {
        let session = of_thread;
        session.await_end(&ours);
        for (other, running) in &others {
            other.await_end(running);
        }
        match function {
            LOGICAL_UNIT_RESET => session.units().reset(Some(lun), &session.nexus),
            TARGET_WARM_RESET | TARGET_COLD_RESET => session.units().reset(None, &session.nexus),
            _ => {}
        }
        answer(&session, itt, COMPLETE);
        session.managing.fetch_sub(1, Ordering::SeqCst);
        if function == TARGET_COLD_RESET {
            for s in session.shared.sessions() {
                s.finish();
            }
        }
    };
    let started = std::thread::Builder::new()
        .name("iscsi-manage".into())
        .spawn(finish);
    if started.is_err() {
        session.managing.fetch_sub(1, Ordering::SeqCst);
        answer(session, r.itt, REJECTED);
    }
}

/// Aborts what a request is about, of one session.
fn affect(session: &Arc<Session>, r: &TaskManagement, by: Aborted) -> Vec<Arc<Task>> {
    session.abort(by, &|t| match r.function.0 {
        ABORT_TASK => t.itt == r.referenced && t.lun == r.lun,
        TARGET_WARM_RESET | TARGET_COLD_RESET => true,
        _ => t.lun == r.lun,
    })
}

fn answer(session: &Session, itt: u32, code: u8) {
    let head = TaskManagementResponse {
        last: true,
        response: code,
        itt,
        ..Default::default()
    };
    session.sender.post(Pdu::new(head.encode(), Vec::new()));
}
