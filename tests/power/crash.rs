//! What may be on a disk after its power was cut.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::random::Random;

/// Written whole or not at all.
const SECTOR: usize = 512;
/// The root's number.
const ROOT: u64 = 1;

/// One thing that a disk was told.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Make {
        directory: u64,
        name: String,
        node: u64,
        is_directory: bool,
    },
    Remove {
        directory: u64,
        name: String,
    },
    Rename {
        from: (u64, String),
        to: (u64, String),
    },
    Resize {
        node: u64,
        size: u64,
    },
    Write {
        node: u64,
        at: u64,
        bytes: Vec<u8>,
    },
    /// Somebody waited until that file, or the names in that directory, were on the disk.
    Sync(u64),
    /// A caller was told that its first changes, this many, are stored.
    Acknowledged(usize),
}

impl Event {
    /// Whether a sync of `node` makes it durable.
    fn is_of(&self, node: u64) -> bool {
        match self {
            Self::Make { directory, .. } | Self::Remove { directory, .. } => *directory == node,
            Self::Rename { from, to } => from.0 == node || to.0 == node,
            Self::Resize { node: of, .. } | Self::Write { node: of, .. } => *of == node,
            Self::Sync(_) | Self::Acknowledged(_) => false,
        }
    }

    /// Whether a journal keeps it in order with others of its kind.
    fn is_metadata(&self) -> bool {
        matches!(
            self,
            Self::Make { .. } | Self::Remove { .. } | Self::Rename { .. } | Self::Resize { .. }
        )
    }
}

/// How much of what was not synced the disk has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// All of it: the process died, and not the machine.
    Nothing,
    /// All, but of the last write only the first half of its sectors.
    Torn,
    /// All, but of the last write only the second half.
    TornFirst,
    /// None of it.
    Everything,
    /// Some sectors, and the first few changes of names and sizes; which, this number says.
    Some(u64),
}

/// The disk after these events.
pub(crate) struct Image {
    directories: HashMap<u64, BTreeMap<String, u64>>,
    files: HashMap<u64, Vec<u8>>,
}

impl Image {
    /// After the first `end` events.
    pub(crate) fn after(recording: &Recording, end: usize, loss: Loss) -> Self {
        let events = &recording.events[..end];
        let mut image =
            Self { directories: [(ROOT, BTreeMap::new())].into(), files: HashMap::new() };
        let open = (0..end).filter(|&at| !recording.is_durable(at, end));
        let metadata = open.filter(|&at| events[at].is_metadata()).count();
        let mut random = Random::new(match loss {
            Loss::Some(seed) => seed,
            _ => 0,
        });
        let mut metadata_left = match loss {
            Loss::Some(_) => random.below(metadata + 1),
            Loss::Everything => 0,
            _ => metadata,
        };
        for (at, event) in events.iter().enumerate() {
            let is_last = at + 1 == end;
            if recording.is_durable(at, end) {
                image.apply(event, |_| true);
            } else if event.is_metadata() {
                if metadata_left > 0 {
                    metadata_left -= 1;
                    image.apply(event, |_| true);
                }
            } else if let Event::Write { bytes, .. } = event {
                let half = bytes.len().div_ceil(SECTOR) / 2;
                match loss {
                    Loss::Torn if is_last => image.apply(event, |sector| sector < half),
                    Loss::TornFirst if is_last => image.apply(event, |sector| sector >= half),
                    Loss::Nothing | Loss::Torn | Loss::TornFirst => image.apply(event, |_| true),
                    Loss::Everything => {}
                    Loss::Some(_) => {
                        // Often whole, or not at all.
                        let style = random.below(3);
                        image.apply(event, |_| match style {
                            0 => false,
                            1 => true,
                            _ => random.below(2) == 0,
                        });
                    }
                }
            }
        }
        image
    }

    fn apply(&mut self, event: &Event, mut has_sector: impl FnMut(usize) -> bool) {
        match event {
            Event::Make { directory, name, node, is_directory } => {
                if *is_directory {
                    self.directories.entry(*node).or_default();
                }
                if let Some(names) = self.directories.get_mut(directory) {
                    names.insert(name.clone(), *node);
                }
            }
            Event::Remove { directory, name } => {
                self.directories.get_mut(directory).map(|names| names.remove(name));
            }
            Event::Rename { from, to } => {
                let moved =
                    self.directories.get_mut(&from.0).and_then(|names| names.remove(&from.1));
                if let (Some(node), Some(names)) = (moved, self.directories.get_mut(&to.0)) {
                    names.insert(to.1.clone(), node);
                }
            }
            Event::Resize { node, size } => {
                self.files.entry(*node).or_default().resize(*size as usize, 0);
            }
            Event::Write { node, at, bytes } => {
                let file = self.files.entry(*node).or_default();
                let mut place = *at as usize;
                let mut rest = &bytes[..];
                let mut number = 0;
                while !rest.is_empty() {
                    // Sectors are the disk's, not the write's.
                    let (sector, more) = rest.split_at(rest.len().min(SECTOR - place % SECTOR));
                    if has_sector(number) {
                        let end = place + sector.len();
                        file.resize(file.len().max(end), 0);
                        file[place..end].copy_from_slice(sector);
                    }
                    (place, rest, number) = (place + sector.len(), more, number + 1);
                }
            }
            Event::Sync(_) | Event::Acknowledged(_) => {}
        }
    }

    /// Writes it down below `directory`, for somebody to use.
    pub(crate) fn lay_out(&self, directory: &Path) {
        self.lay_out_directory(ROOT, directory);
    }

    fn lay_out_directory(&self, number: u64, at: &Path) {
        for (name, node) in &self.directories[&number] {
            let path = at.join(name);
            if self.directories.contains_key(node) {
                fs::create_dir(&path).expect("it is new");
                fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("it is ours");
                self.lay_out_directory(*node, &path);
            } else {
                let bytes = self.files.get(node).map_or(&[][..], Vec::as_slice);
                fs::write(&path, bytes).expect("there is room");
            }
        }
    }
}

/// All events, and which others somebody's waiting made durable.
pub(crate) struct Recording {
    pub(crate) events: Vec<Event>,
    /// For each event, the first one after which it is durable.
    durable_after: Vec<usize>,
}

impl Recording {
    pub(crate) fn new(events: Vec<Event>) -> Self {
        let mut durable_after = vec![usize::MAX; events.len()];
        for (at, event) in events.iter().enumerate() {
            let Event::Sync(node) = event else { continue };
            let open = (0..at).filter(|&before| durable_after[before] == usize::MAX);
            let covered: Vec<_> = open.filter(|&before| events[before].is_of(*node)).collect();
            // The journal of a file system has an order: with a change of names, those before it are
            // on the disk too.
            let newest = covered.iter().copied().filter(|&at| events[at].is_metadata()).max();
            let earlier = (0..newest.unwrap_or(0)).filter(|&at| events[at].is_metadata());
            for durable in covered.into_iter().chain(earlier) {
                durable_after[durable] = durable_after[durable].min(at);
            }
        }
        Self { events, durable_after }
    }

    /// Whether the event is durable when so many have happened.
    fn is_durable(&self, event: usize, end: usize) -> bool {
        self.durable_after[event] < end
    }
}
