//! What the derive says of faults: each case under `tests/ui/` with the compiler's words beside it.
//!
//! After a change of wording, run with `TRYBUILD=overwrite` and read the difference as a user would. It is a test of
//! this package, since trybuild builds all that its package depends on once more.

#[test]
fn faults_are_said_in_the_users_words() {
    trybuild::TestCases::new().compile_fail("tests/ui/*/*.rs");
}
