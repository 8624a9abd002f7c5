//! What the fuzz targets check. Each is a function of bytes that panics if something is wrong, so that
//! `tests/fuzz` runs it too, without a fuzzer.

pub(crate) mod documents;
pub(crate) mod envelope;
mod input;
pub(crate) mod paths;
pub(crate) mod sidecar;
pub(crate) mod tree;
