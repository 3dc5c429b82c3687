//! The rows of the table: which calls, to which server, over how many connections.

/// A server that takes calls, or the loop that stands beside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contender {
    /// A bare warp server.
    Bare,
    /// Appending and syncing, without HTTP.
    CommitLoop,
    /// The example server with its default flags.
    Example,
    /// The example server with `--workers 0`.
    ExampleOff,
    /// webhook-warp and webhook-sled, with default workers.
    Sled,
    /// webhook-warp and webhook-sled, without workers.
    SledOff,
    /// webhook-warp and the store in memory, with default workers.
    Memory,
    /// Debian's `webhook`, which waits for its command.
    Debian,
}

impl Contender {
    /// Those that hold the promises of this library.
    const OURS: [Self; 5] = [Self::ExampleOff, Self::Example, Self::SledOff, Self::Sled, Self::Memory];

    /// The name in arguments.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::CommitLoop => "commit-loop",
            Self::Example => "example",
            Self::ExampleOff => "example-off",
            Self::Sled => "sled",
            Self::SledOff => "sled-off",
            Self::Memory => "memory",
            Self::Debian => "debian",
        }
    }

    /// The name in the table.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Bare => "bare warp server",
            Self::CommitLoop => "bare commit loop, no HTTP",
            Self::Example => "example server, default flags",
            Self::ExampleOff => "example server, workers off",
            Self::Sled => "library, sled",
            Self::SledOff => "library, sled, workers off",
            Self::Memory => "library, memory, newest 10,000 kept",
            Self::Debian => "Debian's webhook",
        }
    }
}

/// Calls as curl sends them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// POST with two parameters in JSON.
    Post,
    /// GET with two parameters in the query.
    Get,
    /// POST without parameters.
    Plain,
    /// POST without parameters that waits until `/bin/true` has ended.
    Command,
}

impl Call {
    /// The name in arguments.
    fn name(self) -> &'static str {
        match self {
            Self::Post => "post",
            Self::Get => "get",
            Self::Plain => "plain",
            Self::Command => "command",
        }
    }

    /// The name in the table.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Post => "POST, 2 in JSON",
            Self::Get => "GET, 2 in query",
            Self::Plain => "POST, none",
            Self::Command => "waits for /bin/true",
        }
    }
}

/// Number of callers that wait for commands at once.
const COMMAND_CALLERS: usize = 8;
/// At how many connections all servers and all kinds of calls are measured by default.
const USUAL_CONNECTIONS: usize = 64;

/// One row: some calls to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) contender: Contender,
    pub(crate) call: Call,
    pub(crate) connections: usize,
}

impl Row {
    pub(crate) fn new(contender: Contender, call: Call, connections: usize) -> Self {
        // The loop gets no calls, so it is the same for all kinds.
        let call = if contender == Contender::CommitLoop { Call::Post } else { call };
        Self { contender, call, connections }
    }

    /// The name that arguments choose it by.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}/{}", self.contender.name(), self.call.name(), self.connections)
    }

    /// The rows of which the slowest is what this one is compared with.
    pub(crate) fn references(&self) -> Vec<Self> {
        let of = |contender| Self::new(contender, self.call, self.connections);
        match self.call {
            Call::Command => vec![of(Contender::Debian)],
            Call::Post | Call::Get | Call::Plain => vec![of(Contender::Bare), of(Contender::CommitLoop)],
        }
    }

    pub(crate) fn needs_debian(&self) -> bool {
        self.contender == Contender::Debian
    }
}

/// The rows to measure, less their references.
pub(crate) fn plan(connections: &[usize], every: bool) -> Vec<Row> {
    let mut rows = Vec::new();
    for &connections in connections {
        for call in [Call::Post, Call::Get, Call::Plain] {
            for contender in Contender::OURS {
                let is_main =
                    call == Call::Post && matches!(contender, Contender::Example | Contender::ExampleOff);
                let is_usual = connections == USUAL_CONNECTIONS
                    && (call == Call::Post
                        || matches!(contender, Contender::Example | Contender::ExampleOff));
                if every || is_main || is_usual {
                    rows.push(Row::new(contender, call, connections));
                }
            }
        }
    }
    rows.push(Row::new(Contender::Example, Call::Command, COMMAND_CALLERS));
    rows
}

/// Puts the references of each row before it, once.
pub(crate) fn with_references(rows: Vec<Row>) -> Vec<Row> {
    let mut all: Vec<Row> = Vec::new();
    for row in rows {
        for row in row.references().into_iter().chain([row]) {
            if !all.contains(&row) {
                all.push(row);
            }
        }
    }
    all
}
