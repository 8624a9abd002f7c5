//! Extended attributes: what a sidecar does not say. They are found by name and not listed, so that copies do not
//! carry them.

use std::ffi::OsStr;

use crate::model::Operation;
use crate::vault::Secret;

use crate::fs::kernel::nodes::Node;
use crate::fs::{Fs, FsError, Requester};

const PREFIX: &str = "user.secretfs.";
const NAMES: [&str; 5] = ["id", "version", "created", "updated", "updated-by"];

impl Fs {
    /// The value of an attribute, for callers that may read the sidecar.
    ///
    /// # Errors
    /// There is no such attribute, or the caller may not.
    pub fn attribute(&self, who: &Requester, node: u64, name: &OsStr) -> Result<Vec<u8>, FsError> {
        let Node::Value(value) = self.node(who, node)? else { return Err(FsError::NoAttribute) };
        let name = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let name = name.filter(|name| NAMES.contains(name)).ok_or(FsError::NoAttribute)?;
        let secret = self.vault.secret_of(value.record()).ok_or(FsError::Stale)?;
        let allowed = self.vault.check(&*self.caller(who)?, Operation::ReadLists, &secret);
        self.note(who, "getxattr", allowed.map_err(FsError::from))?;
        Ok(attribute_of(&secret, name).into_bytes())
    }

    /// Why an attribute cannot be set or removed.
    pub fn refuse_attribute(&self, who: &Requester, node: u64) -> FsError {
        let path = self.node(who, node).map_or_else(|_| String::new(), |node| self.path_of(&node));
        match self.note::<()>(who, "setxattr", Err(FsError::Unsupported(path))) {
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
