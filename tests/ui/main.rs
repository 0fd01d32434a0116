//! What is refused: with which words under which tokens.
//!
//! After a deliberate change of a text: `TRYBUILD=overwrite cargo test --test ui`.

#[test]
fn ui() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/macro/*.rs");
    cases.compile_fail("tests/ui/types/*.rs");
}
