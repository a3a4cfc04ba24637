//! The script that decides a commit, and how it comes to the server.

use std::sync::LazyLock;

use redis::{Cmd, Script, cmd};

/// A commit. A server without room runs none of it.
static COMMIT: LazyLock<Code> =
    LazyLock::new(|| Code::new(concat!("#!lua\n", include_str!("commit.lua"))));

/// A commit that takes no room worth speaking of: it runs on a full server too.
static RELIEF: LazyLock<Code> = LazyLock::new(|| {
    Code::new(concat!(
        "#!lua flags=allow-oom\n",
        include_str!("commit.lua")
    ))
});

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

    fn load(&self) -> Cmd {
        let mut load = cmd("SCRIPT");
        load.arg("LOAD").arg(self.text);
        load
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

/// The call of a commit, still without its keys.
pub(super) fn call(relieves: bool, form: Form) -> Cmd {
    let code = if relieves { &RELIEF } else { &COMMIT };
    match form {
        Form::Hash => prepared("EVALSHA", &code.hash),
        Form::Text => prepared("EVAL", code.text),
    }
}

fn prepared(name: &str, code: &str) -> Cmd {
    let mut call = cmd(name);
    call.arg(code);
    call
}

/// What has a server know the scripts.
pub(super) fn loads() -> Vec<Cmd> {
    vec![COMMIT.load(), RELIEF.load()]
}
