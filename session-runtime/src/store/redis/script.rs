//! The script that swaps, and how it comes to the server.

use std::sync::LazyLock;

use redis::{Cmd, Script, cmd};

/// A server without room runs none of it.
static SWAP: LazyLock<Code> =
    LazyLock::new(|| Code::new(concat!("#!lua\n", include_str!("swap.lua"))));

/// The same, for what takes no more room than before: it runs on a full server, too.
static RELIEF: LazyLock<Code> =
    LazyLock::new(|| Code::new(concat!("#!lua flags=allow-oom\n", include_str!("swap.lua"))));

struct Code {
    text: &'static str,
    hash: String,
}

impl Code {
    fn new(text: &'static str) -> Self {
        Self {
            text,
            hash: Script::new(text).get_hash().to_owned(),
        }
    }
}

/// How a server is told which script to run.
#[derive(Clone, Copy)]
pub(super) enum Form {
    /// By its hash, if it knows it.
    Hash,
    /// By its text; from then on it knows it.
    Text,
}

/// Begins the call of the script, still without its keys.
pub(super) fn call(relieves: bool, form: Form) -> Cmd {
    let code = if relieves { &RELIEF } else { &SWAP };
    let mut call = Cmd::new();
    match form {
        Form::Hash => call.arg("EVALSHA").arg(&code.hash),
        Form::Text => call.arg("EVAL").arg(code.text),
    };
    call
}

/// Returns the commands after which a server knows the script in both its forms.
pub(super) fn loads() -> [Cmd; 2] {
    [&SWAP, &RELIEF].map(|code| {
        let mut load = cmd("SCRIPT");
        load.arg("LOAD").arg(code.text);
        load
    })
}
