//! The part of YAML 1.2 that documents are written in, read without a tree.
//!
//! Why not a library: what callers drop into the mount is read by the daemon, with values in the
//! clear in it. The libraries tried read ahead without bound inside `[…]` (memory 50 times the
//! file), need quadratic time for crafted blanks or directives, and leave copies of what they read
//! in freed memory. Here time is linear, memory is that of the scalar at hand, text is borrowed from
//! the input where that is possible and copied into buffers that wipe themselves elsewhere, and no
//! error holds a word of the input. What is read is read as the libraries do; tests compare the two.
//!
//! Read: block and flow mappings and sequences, all five styles of scalars, comments, several
//! documents, the tags `!!str` and `!!binary`. Refused, each with its own error: anchors and aliases,
//! directives, other tags, `? ` keys, tabs as indentation, and what YAML refuses.

mod blocks;
mod cursor;
mod error;
mod flow;
mod quoted;
mod scalar;

pub(super) use blocks::{Collection, Content, Node, Parser};
pub(super) use error::Fault;
pub use error::SyntaxError;
pub(super) use scalar::{Scalar, Tag};

/// How deep collections may be nested. Documents need three.
const MAX_DEPTH: usize = 16;

#[cfg(test)]
mod tests;
