//! Whether the set-up is sound.

use std::sync::OnceLock;

type Check = Box<dyn Fn() -> Vec<String> + Send + Sync>;

/// Asks whoever knows, each time: much of the set-up can change while the daemon runs.
#[derive(Default)]
pub struct Security(OnceLock<Check>);

impl Security {
    /// Sets who knows; the first one stays.
    pub fn set(&self, check: impl Fn() -> Vec<String> + Send + Sync + 'static) {
        // A second one would know the same.
        let _ = self.0.set(Box::new(check));
    }

    /// What makes the set-up unsafe, a phrase each; nothing if it is sound.
    pub fn reasons(&self) -> Vec<String> {
        match self.0.get() {
            Some(check) => check(),
            None => vec!["it is still starting; ask again in a moment".to_owned()],
        }
    }
}
