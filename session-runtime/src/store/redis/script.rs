//! The script that swaps, and how it comes to the server.

use std::sync::LazyLock;

use redis::{Cmd, Script};

/// The script; a server without room runs none of it. And the same for what takes no more room than before: it runs on a
/// full server, too.
const TEXTS: [&str; 2] = [
    concat!("#!lua\n", include_str!("swap.lua")),
    concat!("#!lua flags=allow-oom\n", include_str!("swap.lua")),
];

static HASHES: LazyLock<[String; 2]> =
    LazyLock::new(|| TEXTS.map(|text| Script::new(text).get_hash().to_owned()));

/// The form in which a server is told which script to run.
#[derive(Clone, Copy)]
pub(super) enum Form {
    /// By its hash, if it knows it.
    Hash,
    /// By its text; from then on it knows it.
    Text,
}

/// The number of times that a server may have run a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Once,
    /// The answer may be that to a repeat.
    #[cfg_attr(
        not(feature = "redis-cluster"),
        expect(dead_code, reason = "one server is asked once")
    )]
    Repeatedly,
}

/// Begins the call of the script, still without its keys.
pub(super) fn call(relieves: bool, form: Form) -> Cmd {
    let which = usize::from(relieves);
    let mut call = Cmd::new();
    match form {
        Form::Hash => call.arg("EVALSHA").arg(&HASHES[which]),
        Form::Text => call.arg("EVAL").arg(TEXTS[which]),
    };
    call
}

/// Returns the commands after which a server knows the script in both its forms.
pub(super) fn loads() -> [Cmd; 2] {
    TEXTS.map(|text| {
        let mut load = Cmd::new();
        load.arg("SCRIPT").arg("LOAD").arg(text);
        load
    })
}
