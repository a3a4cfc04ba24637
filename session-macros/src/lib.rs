//! The derive macro of session-runtime.
