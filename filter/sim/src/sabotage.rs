//! Bugs that are planted on purpose, to show that the invariants would find them.

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Sabotage {
    /// A session is written whatever version it has, and even when it is gone.
    IgnoreVersion,
    /// What the workers of an Envoy tell each other about ended sessions is not there.
    HideEndings,
    /// A code is never taken: every callback may spend it.
    GrantEveryCode,
    /// Every signature is good.
    AcceptEverySignature,
}

impl Sabotage {
    /// Changes to the texts of scripts: what stands there, and what stands there instead.
    pub fn scripts(self) -> Vec<(String, String)> {
        let change = |from: &str, to: &str| vec![(from.to_owned(), to.to_owned())];
        match self {
            Self::IgnoreVersion => change("redis.call('HGET',KEYS[1],'ver')~=ARGV[1]", "false"),
            Self::HideEndings | Self::GrantEveryCode | Self::AcceptEverySignature => Vec::new(),
        }
    }
}
