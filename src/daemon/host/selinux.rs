//! The SELinux labels of a mount (mount(8), "context="), which the kernel takes as options of mount(2).

use std::ffi::OsString;
use std::fmt::Write;
use std::str::FromStr;

use serde::Deserialize;

use crate::daemon::settings::MountSettings;

/// An SELinux label, such as `system_u:object_r:etc_t:s0:c1,c2`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Label(String);

/// The text is not a label.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not an SELinux label; write one like system_u:object_r:etc_t:s0")]
pub struct LabelError(String);

impl FromStr for Label {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        // mount(2) takes it in double quotes, since it may hold commas.
        let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
        match !text.is_empty() && text.bytes().all(is_plain) {
            true => Ok(Self(text.to_owned())),
            false => Err(LabelError(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Label {
    type Error = LabelError;

    fn try_from(text: String) -> Result<Self, LabelError> {
        text.parse()
    }
}

/// Those that are given, by the names of their options.
#[derive(Clone, Debug, Default)]
pub(in crate::daemon) struct Labels(Vec<(&'static str, Label)>);

impl Labels {
    pub(in crate::daemon) fn of(flags: &MountSettings, file: &MountSettings) -> Self {
        let given = |name, of: fn(&MountSettings) -> &Option<Label>| {
            Some((name, of(flags).clone().or(of(file).clone())?))
        };
        let all = [
            given("context", |it| &it.context),
            given("fscontext", |it| &it.fscontext),
            given("defcontext", |it| &it.defcontext),
            given("rootcontext", |it| &it.rootcontext),
        ];
        Self(all.into_iter().flatten().collect())
    }

    pub(in crate::daemon) fn to_flags(&self) -> impl Iterator<Item = OsString> {
        self.0.iter().flat_map(|(name, Label(label))| [format!("--{name}").into(), label.into()])
    }

    /// As mount(2) takes them, each after a comma.
    pub(in crate::daemon) fn to_mount_options(&self) -> String {
        self.0.iter().fold(String::new(), |mut options, (name, Label(label))| {
            write!(options, ",{name}=\"{label}\"").expect("a string takes all");
            options
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_become_options_of_the_mount() {
        let label = |text: &str| text.parse::<Label>();
        let flags = MountSettings {
            context: label("system_u:object_r:etc_t:s0:c1,c2").ok(),
            ..MountSettings::default()
        };
        let file = MountSettings {
            context: label("a:b:c").ok(),
            fscontext: label("d:e:f").ok(),
            defcontext: label("g:h:i").ok(),
            rootcontext: label("j:k:l").ok(),
            ..MountSettings::default()
        };
        let labels = Labels::of(&flags, &file);
        assert_eq!(
            labels.to_mount_options(),
            ",context=\"system_u:object_r:etc_t:s0:c1,c2\",fscontext=\"d:e:f\",defcontext=\"g:h:i\",rootcontext=\"j:k:l\""
        );
        let flags: Vec<_> = labels.to_flags().collect();
        assert_eq!(flags[..2], ["--context", "system_u:object_r:etc_t:s0:c1,c2"]);
        assert_eq!(flags[6..], ["--rootcontext", "j:k:l"]);
        let none = Labels::of(&MountSettings::default(), &MountSettings::default());
        assert!(none.to_flags().count() == 0 && none.to_mount_options().is_empty());
        for bad in ["", "a\",suid", "a b", "a\\", "a\n", "ä"] {
            assert!(label(bad).is_err(), "{bad:?}");
        }
    }
}
