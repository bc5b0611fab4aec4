//! No snapshot: the source itself, which others hold still.

use super::provider::{Made, Name, Provider, Subject};
use crate::error::Result;
use serde_json::Value;

/// Makes nothing.
pub struct None {
    subject: Subject,
}

impl None {
    /// Of anything.
    pub fn new(subject: Subject) -> Self {
        Self { subject }
    }
}

impl Provider for None {
    fn kind(&self) -> &'static str {
        "none"
    }
    fn prepare(&mut self, _name: &Name) -> Result<Value> {
        Ok(Value::Null)
    }
    fn create(&mut self, _data: &mut Value) -> Result<()> {
        Ok(())
    }
    fn describe(&mut self, _data: &Value) -> Result<Made> {
        Ok(Made {
            place: self.subject.text.clone(),
            part: Option::None,
            label: self.subject.text.clone(),
            naa: Option::None,
        })
    }
    fn delete(&mut self, _data: &Value) -> Result<()> {
        Ok(())
    }
}
