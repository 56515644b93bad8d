//! Why Redis gave no usable answer.

use crate::host::CalloutError;
use crate::labelled::labelled;

/// Why Redis gave no usable answer. It always means "don't know", never "not found".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedisError {
    /// Envoy has no cluster with the configured name.
    #[error("unknown cluster")]
    UnknownCluster,
    /// Nothing was sent.
    #[error("no healthy host")]
    NoHealthyHost,
    /// The connection was lost after the commands were sent.
    #[error("connection lost")]
    ConnectionLost,
    /// No answer within the time limit.
    #[error("timeout")]
    Timeout,
    /// Envoy could not connect.
    #[error("can't connect")]
    CannotConnect,
    /// The host has no randomness for the word that proves that replies belong to the pipeline.
    #[error("no randomness")]
    NoRandomness,
    /// The cluster's nodes redirect in a circle, or to too many nodes.
    #[error("too many redirections")]
    TooManyRedirections,
    /// An answer ends early.
    #[error("incomplete reply")]
    Incomplete,
    /// An answer is not RESP.
    #[error("malformed reply")]
    Malformed,
    /// An answer exceeds the limits of the parser.
    #[error("reply too deep or too long")]
    TooLarge,
    /// An answer has something after the last reply.
    #[error("more replies than commands")]
    TooManyReplies,
    /// An answer belongs to another pipeline.
    #[error("reply of another request")]
    OfAnotherRequest,
    /// A reply is not of the type that the command has.
    #[error("wrong type of reply")]
    WrongType,
    /// A record was not written, and the reason is unknown.
    #[error("not written")]
    NotWritten,
    /// Redis replied with an error: it was reachable, but refused the command.
    #[error("{}", .0.label())]
    Refused(ErrorReply),
}

labelled! {
    /// The kinds of error replies. The part of a text before the colon is the first word of the reply, by which
    /// [`ErrorReply::parse`] finds the kind.
    pub enum ErrorReply {
        Loading = "LOADING: Redis is still reading its data",
        ReadOnly = "READONLY: this Redis is a replica",
        Moved = "MOVED: the key lives on another cluster node",
        Ask = "ASK: the key is moving to another cluster node",
        ClusterDown = "CLUSTERDOWN",
        TryAgain = "TRYAGAIN",
        OutOfMemory = "OOM: Redis is out of memory",
        Misconfigured = "MISCONF: Redis can't save to its disk and refuses writes",
        NoReplicas = "NOREPLICAS: Redis has too few replicas and refuses writes",
        NoAuth = "NOAUTH: Redis requires a password, but none is configured",
        WrongPass = "WRONGPASS: Redis refuses the password",
        NoPermission = "NOPERM: the Redis user lacks permission for the command or the key",
        WrongType = "WRONGTYPE: the key has another type",
        NoScript = "NOSCRIPT",
        Busy = "BUSY: a script is running",
        MasterDown = "MASTERDOWN: replica without its primary",
        ExecAbort = "EXECABORT",
        Other = "ERR: Redis refuses the command",
    }
}

impl ErrorReply {
    /// The kind of an error reply. The rest of the message could quote what was sent, so it is dropped.
    pub fn parse(line: &[u8]) -> Self {
        let mut words = line.split(|byte| *byte == b' ');
        let first = words.next().unwrap_or_default();
        // Before version 7, Redis wraps the error of a command in a script: `ERR Error running script (…): … -OOM …`.
        let wrapped = || words.find_map(|word| Self::of(word.strip_prefix(b"-")?));
        let is_wrapped = line.starts_with(b"ERR Error running script ");
        Self::of(first).or_else(|| is_wrapped.then(wrapped)?).unwrap_or(Self::Other)
    }

    /// The kind with this first word, if it says more than `ERR`.
    fn of(word: &[u8]) -> Option<Self> {
        let mut known = Self::ALL.iter().filter(|kind| **kind != Self::Other);
        known.find(|kind| kind.label().split(':').next().map(str::as_bytes) == Some(word)).copied()
    }
}

impl From<CalloutError> for RedisError {
    fn from(error: CalloutError) -> Self {
        match error {
            CalloutError::UnknownCluster => Self::UnknownCluster,
            CalloutError::NotSent => Self::NoHealthyHost,
            CalloutError::Reset => Self::ConnectionLost,
        }
    }
}
