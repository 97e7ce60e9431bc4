//! How long a run is, and with which choices: what `ops/faults` sets, by variables of the environment.

/// The number that the variable of this name holds, if there is one.
pub(crate) fn number_from(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty());
    text.map(|text| text.parse().unwrap_or_else(|error| panic!("{name}: {error}: {text}")))
}
