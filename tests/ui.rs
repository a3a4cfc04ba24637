//! What the derive says of faults: each case under `ui/` with the compiler's words beside it.
//!
//! After a change of wording, run with `TRYBUILD=overwrite` and read the difference as a user would.

#[test]
fn faults_are_said_in_the_users_words() {
    trybuild::TestCases::new().compile_fail("ui/*/*.rs");
}
