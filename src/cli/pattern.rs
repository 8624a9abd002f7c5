//! Which keys a pattern means.

/// A part of the key, or a glob if it holds `*`, `?` or `[`.
#[derive(Clone, Debug)]
pub(super) enum Pattern {
    Part(String),
    Glob(Vec<char>),
}

impl Pattern {
    /// Any text is a pattern.
    pub(super) fn parse(text: &str) -> Self {
        if text.contains(['*', '?', '[']) {
            Self::Glob(text.chars().collect())
        } else {
            Self::Part(text.to_owned())
        }
    }

    /// Whether the pattern means this key.
    pub(super) fn matches(&self, key: &str) -> bool {
        match self {
            Self::Part(part) => key.contains(part.as_str()),
            Self::Glob(glob) => matches(glob, &key.chars().collect::<Vec<_>>()),
        }
    }
}

/// Glob over the whole text; `*` and `?` match `/` as well, so that `*PASSWORD` finds it in every
/// directory. Goes back to the last `*` alone: linear for each `*`, never exponential.
fn matches(glob: &[char], text: &[char]) -> bool {
    let (mut at, mut in_text) = (0, 0);
    let mut star = None;
    while in_text < text.len() {
        if glob.get(at) == Some(&'*') {
            star = Some((at + 1, in_text));
            at += 1;
        } else if let Some(length) = one(&glob[at..], text[in_text]) {
            at += length;
            in_text += 1;
        } else if let Some((after_star, taken)) = star {
            star = Some((after_star, taken + 1));
            (at, in_text) = (after_star, taken + 1);
        } else {
            return false;
        }
    }
    glob[at..].iter().all(|&rest| rest == '*')
}

/// How much of the glob matches this one character, if it does.
fn one(glob: &[char], character: char) -> Option<usize> {
    match glob {
        ['?', ..] => Some(1),
        ['[', class @ ..] => match class_length(class) {
            Some(length) => in_class(&class[..length], character).then_some(length + 2),
            // Without its end it is a plain bracket.
            None => (character == '[').then_some(1),
        },
        [first, ..] => (*first == character).then_some(1),
        [] => None,
    }
}

/// Where the class ends; a `]` right at its start belongs to it.
fn class_length(class: &[char]) -> Option<usize> {
    let start = usize::from(matches!(class, ['!' | '^', ..]));
    let end = class.get(start + 1..)?.iter().position(|&c| c == ']')?;
    Some(start + 1 + end)
}

fn in_class(class: &[char], character: char) -> bool {
    let (negated, mut rest) = match class {
        ['!' | '^', rest @ ..] => (true, rest),
        _ => (false, class),
    };
    let mut found = false;
    loop {
        rest = match rest {
            [from, '-', to, rest @ ..] => {
                found |= (*from..=*to).contains(&character);
                rest
            }
            [one, rest @ ..] => {
                found |= *one == character;
                rest
            }
            [] => return found != negated,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_found_anywhere() {
        for (pattern, key, found) in [
            ("DATABASE", "prod/DATABASE_URL", true),
            ("database", "prod/DATABASE_URL", false),
            ("", "K", true),
            ("a.b", "axb", false),
        ] {
            assert_eq!(Pattern::parse(pattern).matches(key), found, "{pattern} {key}");
        }
    }

    #[test]
    fn a_glob_matches_the_whole_key() {
        for (pattern, key, found) in [
            ("*URL", "prod/DATABASE_URL", true),
            ("URL*", "prod/URL", false),
            ("prod/?", "prod/K", true),
            ("prod/?", "prod/KK", false),
            ("K[0-9]", "K7", true),
            ("K[!0-9]", "K7", false),
            ("K[]x]", "K]", true),
            ("K[x", "K[x", true),
            ("*a*b*c*", "xxaxxbxxcxx", true),
            ("*a*b*c", "xxaxxbxxcxx", false),
            ("ключ/*", "ключ/值", true),
            ("**", "", true),
        ] {
            assert_eq!(Pattern::parse(pattern).matches(key), found, "{pattern} {key}");
        }
    }

    #[test]
    fn no_pattern_takes_for_ever() {
        let glob = Pattern::parse(&"*a".repeat(500));
        assert!(!glob.matches(&"a".repeat(499)));
        assert!(!glob.matches(&format!("{}b", "a".repeat(1000))));
    }
}
