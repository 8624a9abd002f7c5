//! Extended attributes: what a sidecar does not say.

use std::ffi::OsStr;

use crate::model::Operation;
use crate::vault::Secret;

use super::nodes::Node;
use super::{Fs, FsError, Requester};

const PREFIX: &str = "user.secretfs.";
const NAMES: [&str; 5] = ["id", "version", "created", "updated", "updated-by"];

impl Fs {
    /// The value of an attribute, for callers that may read the sidecar.
    ///
    /// # Errors
    /// There is no such attribute, or the caller may not.
    pub fn attribute(&self, who: &Requester, node: u64, name: &OsStr) -> Result<Vec<u8>, FsError> {
        let Node::Value(value) = self.node(node)? else { return Err(FsError::NoAttribute) };
        let name = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let name = name.filter(|name| NAMES.contains(name)).ok_or(FsError::NoAttribute)?;
        let secret = self.vault.secret_of(value.record()).ok_or(FsError::Stale)?;
        let allowed = self.vault.check(&*self.caller(who)?, Operation::ReadLists, &secret);
        self.note(who, "getxattr", allowed.map_err(FsError::from))?;
        Ok(attribute_of(&secret, name).into_bytes())
    }

    /// The names of the attributes, each followed by a zero byte; none for callers that may not
    /// read them.
    ///
    /// # Errors
    /// The caller cannot be resolved.
    pub fn attribute_names(&self, who: &Requester, node: u64) -> Result<Vec<u8>, FsError> {
        let Node::Value(value) = self.node(node)? else { return Ok(Vec::new()) };
        let secret = self.vault.secret_of(value.record()).ok_or(FsError::Stale)?;
        let caller = self.caller(who)?;
        match self.vault.check(&caller, Operation::ReadLists, &secret) {
            Ok(_) => Ok(NAMES.map(|name| format!("{PREFIX}{name}\0")).concat().into_bytes()),
            Err(_) => Ok(Vec::new()),
        }
    }

    /// Why an attribute cannot be set or removed.
    pub fn refuse_attribute(&self, who: &Requester, node: u64, name: &OsStr) -> FsError {
        let path = self.node(node).map_or_else(|_| String::new(), |node| self.path_of(&node));
        let is_user = name.as_encoded_bytes().starts_with(b"user.");
        let error = if is_user {
            FsError::Forbidden { path, what: "attributes are read-only here; leave them" }
        } else {
            FsError::Unsupported(path)
        };
        match self.note::<()>(who, "setxattr", Err(error)) {
            Err(error) => error,
            Ok(()) => unreachable!("an error stays one"),
        }
    }
}

fn attribute_of(secret: &Secret, name: &str) -> String {
    let value = secret.value();
    match name {
        "id" => secret.id().to_string(),
        "version" => value.version().to_string(),
        "created" => secret.created().to_rfc3339(),
        "updated" => value.updated().to_rfc3339(),
        _ => value.updated_by().to_string(),
    }
}
