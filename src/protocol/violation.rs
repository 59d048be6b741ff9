//! Violations of a protocol: what is wrong, the correct form, the clause.

/// Violated rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// Description in lower case.
    pub what: &'static str,
    /// Correct form.
    pub expected: &'static str,
    /// Clause of the rule.
    pub clause: &'static str,
}

impl Violation {
    pub(crate) const fn new(what: &'static str, expected: &'static str, clause: &'static str) -> Self {
        Self { what, expected, clause }
    }
}
