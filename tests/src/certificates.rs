//! Certificates that no system knows.

use std::process::Command;

/// Makes an authority (`authority.crt`), and a certificate of its for a server that is called `localhost` (`server.crt`, `server.key`), in the folder
/// in which these commands of `openssl` run.
pub(crate) fn certify(openssl: impl Fn() -> Command) {
    let make = |name: &str, subject: &str, more: &[&str]| {
        let mut command = openssl();
        command.args(["req", "-x509", "-nodes", "-days", "2", "-subj", subject]);
        command.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
        let files = (format!("{name}.key"), format!("{name}.crt"));
        command.args(["-keyout", &files.0, "-out", &files.1]);
        let output = command.args(more).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    };
    make("authority", "/CN=authority", &[]);
    let by = ["-CA", "authority.crt", "-CAkey", "authority.key"];
    let name = ["-addext", "subjectAltName=DNS:localhost"];
    let leaf = ["-addext", "basicConstraints=critical,CA:FALSE"];
    make(
        "server",
        "/CN=localhost",
        &[by.as_slice(), &name, &leaf].concat(),
    );
}
