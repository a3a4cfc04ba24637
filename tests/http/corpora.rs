//! What fuzzing has found, and where it began, replayed. `fuzz/README.md` says how to fuzz.

use std::fs;
use std::path::Path;

#[path = "../../fuzz/src/targets.rs"]
#[expect(unreachable_pub, reason = "it is a module of another crate")]
mod targets;

#[path = "../../fuzz/src/stored.rs"]
#[expect(unreachable_pub, reason = "it is a module of another crate")]
mod stored;

/// Each file of a target's corpus.
fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(target);
    let mut files = 0;
    for entry in fs::read_dir(folder).expect("a corpus") {
        let path = entry.expect("an entry").path();
        eprintln!("{}", path.display());
        run(&fs::read(path).expect("bytes"));
        files += 1;
    }
    assert!(files > 3, "{target}: {files} files");
}

#[test]
fn any_frame_is_written_as_it_was_read() {
    replay("frame", targets::frame);
}

#[test]
fn whatever_rows_are_made_of_a_record_it_becomes_no_other() {
    replay("rows", stored::rows);
}

#[test]
fn whatever_fields_redis_answers_with_a_record_becomes_no_other() {
    replay("redis", stored::redis);
}

#[test]
fn any_id_is_written_as_it_was_read() {
    replay("id", targets::id);
}

#[test]
fn whatever_stands_beside_a_cookie_its_session_is_found() {
    replay("cookie", targets::cookie);
}

#[test]
fn whatever_is_put_into_a_session_is_what_is_read() {
    replay("json", targets::json);
}

#[test]
fn two_requests_at_once_keep_to_the_laws_of_merging() {
    replay("merge", targets::merge);
}
