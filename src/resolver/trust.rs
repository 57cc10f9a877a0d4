//! Who is believed about names. A name, an ID or a record is the word of whoever could have written it: root's engines,
//! a user's engine, or a container that makes cgroups and files of its own. Each source says with a [`Trust`] whose word
//! it brings, and no word picks a container that is not its author's.

/// Whose word a name, an ID or a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Trust {
    /// Root's word, or the caller's own. It is believed.
    Full,
    /// A user's word. It is believed of what is that user's, where no word of root's says otherwise.
    User(u32),
    /// The word of a container, or of anybody who may write there. It is believed of nothing.
    #[default]
    None,
}

impl Trust {
    /// The trust in what `user` alone can have written: a caller believes what is the caller's own.
    pub(super) fn in_user(user: u32) -> Self {
        if user == 0 || user == caller() {
            Self::Full
        } else {
            Self::User(user)
        }
    }

    /// The user whose word it is.
    pub(super) fn user(self) -> Option<u32> {
        match self {
            Self::User(user) => Some(user),
            Self::Full | Self::None => None,
        }
    }

    /// Whether it is root's word, or the caller's.
    pub(super) fn is_full(self) -> bool {
        self == Self::Full
    }
}

/// The user whom this process acts as.
pub(super) fn caller() -> u32 {
    rustix::process::geteuid().as_raw()
}
