//! Extended attributes: what a sidecar does not say. They are found by name and not listed, so that copies do not
//! carry them.

use std::ffi::OsStr;

use crate::model::Operation;
use crate::vault::Secret;

use crate::fs::kernel::nodes::Node;
use crate::fs::{Fs, FsError, Request};

const PREFIX: &str = "user.secretfs.";
const NAMES: [&str; 5] = ["id", "version", "created", "updated", "updated-by"];

impl Fs {
    /// The value of an attribute, for callers that may read the sidecar.
    ///
    /// # Errors
    /// There is no such attribute, or the caller may not.
    pub fn attribute(
        &self,
        request: &Request,
        node: u64,
        name: &OsStr,
    ) -> Result<Vec<u8>, FsError> {
        let Node::Value(value) = self.node(request, node)? else {
            return Err(FsError::NoAttribute);
        };
        let name = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let name = name.filter(|name| NAMES.contains(name)).ok_or(FsError::NoAttribute)?;
        let secret = self.vault.secret_of(value.record()).ok_or(FsError::Stale)?;
        let allowed = self.vault.check(&*self.caller(request)?, Operation::ReadLists, &secret);
        self.counted(request, Some("getxattr"), allowed.map_err(FsError::from))?;
        Ok(attribute_of(&secret, name).into_bytes())
    }

    /// Attributes can neither be set nor removed.
    ///
    /// # Errors
    /// Always.
    pub fn refuse_attribute(&self, request: &Request, node: u64) -> Result<(), FsError> {
        let path = self.node(request, node).map(|node| self.path_of(&node));
        Err(FsError::Unsupported(path.unwrap_or_default()))
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
