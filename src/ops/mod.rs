//! Floor 3: whole jobs, one file per verb. Nothing here prints, exits or asks.

pub mod boot;
pub mod cat;
pub mod damage;
pub mod diff;
pub mod engine;
pub mod extract;
pub mod files;
pub mod image;
pub mod left;
pub mod ls;
pub mod opened;
pub mod pipeline;
pub mod place;
pub mod plan;
pub mod probe;
pub mod recall;
pub mod report;
pub mod restore;
pub mod restore_tape;
mod rules;
pub mod second;
pub mod still;
pub mod stream;
pub mod tape;
pub mod unit;
pub mod verify;
pub mod view;
pub mod whole;

/// The present time, RFC 3339 in UTC.
pub fn now() -> String {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    let secs = i64::try_from(since.as_secs()).unwrap_or_default();
    let mut text = Vec::new();
    if let Some(t) = crate::volume::times::NtTime::from_unix(secs, 0) {
        t.push_to(&mut text);
    }
    String::from_utf8(text).unwrap_or_default()
}
