//! The protocol: one JSON object a line, commands answered in order, events between.

use crate::error::{Error, ErrorKind, Result};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Longest line that is read.
const MOST_LINE: u64 = 8 << 20;
/// Most events before an answer.
const MOST_EVENTS: u32 = 100_000;
/// Time for an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// A job that does not get on for so long has failed.
const STUCK: Duration = Duration::from_secs(120);

/// A session.
pub struct Client {
    read: BufReader<UnixStream>,
    write: UnixStream,
    name: String,
}

/// What QEMU's refusals begin with.
const SAYS: &str = "QEMU says: ";

/// True when QEMU itself said no.
pub fn refused(e: &Error) -> bool {
    e.message().starts_with(SAYS)
}

impl Client {
    /// Connects and agrees on the capabilities.
    pub fn open(socket: &Path) -> Result<Self> {
        let name = socket.display().to_string();
        let stream = UnixStream::connect(socket).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => {
                Error::not_found("No QEMU listens at this socket")
                    .of(&*name)
                    .hint("--qmp takes the path of a socket that QEMU made (-qmp unix:PATH,server=on,wait=off)")
            }
            _ => Error::io("Cannot connect to QEMU", e).of(&*name),
        })?;
        let fail = |e| Error::io("Cannot speak to QEMU", e).of(&*name);
        stream.set_read_timeout(Some(PATIENCE)).map_err(fail)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(fail)?;
        let mut me = Self {
            read: BufReader::new(stream.try_clone().map_err(fail)?),
            write: stream,
            name,
        };
        if me.line()?.get("QMP").is_none() {
            return Err(me.odd("its greeting"));
        }
        me.call("qmp_capabilities", json!({}))?;
        Ok(me)
    }

    fn odd(&self, what: &str) -> Error {
        Error::damaged(format!("This is not the machine protocol of QEMU: {what}")).of(&*self.name)
    }

    fn line(&mut self) -> Result<Value> {
        let mut bytes = Vec::new();
        let read = (&mut self.read)
            .take(MOST_LINE)
            .read_until(b'\n', &mut bytes);
        read.map_err(|e| match e.kind() {
            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => {
                let what = format!(
                    "QEMU did not answer within {} s; another program may use this socket",
                    PATIENCE.as_secs()
                );
                Error::refused(what).of(&*self.name)
            }
            _ => Error::io("Cannot read from QEMU", e).of(&*self.name),
        })?;
        if bytes.last() != Some(&b'\n') {
            return Err(self.odd("a line without end"));
        }
        serde_json::from_slice(&bytes).map_err(|e| self.odd("a line is no JSON").caused_by(e))
    }

    /// One command; gives what it returns.
    pub fn call(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let mut line = serde_json::to_vec(&json!({ "execute": command, "arguments": arguments }))
            .map_err(|e| Error::damaged("Cannot write a command").caused_by(e))?;
        line.push(b'\n');
        self.write
            .write_all(&line)
            .map_err(|e| Error::io("Cannot write to QEMU", e).of(&*self.name))?;
        for _ in 0..MOST_EVENTS {
            let mut answer = self.line()?;
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
            if let Some(e) = answer.get("error") {
                let words = e["desc"].as_str().unwrap_or("an error without words");
                return Err(
                    Error::new(ErrorKind::Io, format!("{SAYS}{command}: {words}")).of(&*self.name),
                );
            }
        }
        Err(self.odd("nothing but events"))
    }

    fn job(&mut self, id: &str) -> Result<Option<Value>> {
        let all = self.call("query-jobs", json!({}))?;
        let all = all.as_array().cloned().unwrap_or_default();
        Ok(all.into_iter().find(|j| j["id"] == id))
    }

    /// True while a job exists.
    pub fn has_job(&mut self, id: &str) -> Result<bool> {
        Ok(self.job(id)?.is_some())
    }

    /// Waits for a job, completes it when it wants that, and dismisses it.
    pub fn finish(&mut self, id: &str) -> Result<()> {
        let mut seen = (Value::Null, Instant::now());
        let mut completed = false;
        loop {
            let Some(job) = self.job(id)? else {
                return Err(self.odd("a job that went away"));
            };
            match job["status"].as_str() {
                Some("concluded") => {
                    self.call("job-dismiss", json!({ "id": id }))?;
                    return match job["error"].as_str() {
                        None => Ok(()),
                        Some(e) => {
                            Err(Error::new(ErrorKind::Io, format!("{SAYS}{e}")).of(&*self.name))
                        }
                    };
                }
                Some("ready") if !completed => {
                    self.call("job-complete", json!({ "id": id }))?;
                    completed = true;
                }
                _ => {}
            }
            let now = json!([job["status"], job["current-progress"]]);
            if now != seen.0 {
                seen = (now, Instant::now());
            } else if seen.1.elapsed() > STUCK {
                let what = format!("A job of QEMU does not get on ({id}, {})", job["status"]);
                return Err(Error::refused(what).of(&*self.name));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
