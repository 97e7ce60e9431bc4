//! What a benchmark says: its rounds as they are run, and at the end the rows of one table.
//!
//! Machines are shared and noisy, so what counts are ratios to a ceiling that was measured in turn with it, and the
//! median of several rounds, with its spread beside it.

use std::fmt::Display;
use std::ops::{Bound, RangeBounds};

/// Whether to measure, or only to show that everything works: what `cargo test --benches` asks for.
pub(crate) fn is_measuring() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

/// Several measurements of one thing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rounds(Vec<f64>);

impl Rounds {
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    pub(crate) fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// Half of what lies between the least and the greatest, in percent of the median.
    fn spread(&self) -> f64 {
        let least = self.0.iter().copied().fold(f64::INFINITY, f64::min);
        let greatest = self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        (greatest - least) / 2.0 / self.median() * 100.0
    }
}

/// One row of the table: what, measured, goal, and whether it was met. What has no goal, `..`, is measured to be known.
pub(crate) fn row(what: &str, rounds: &Rounds, unit: &str, goal: impl RangeBounds<f64>) {
    let wanted = match (goal.start_bound(), goal.end_bound()) {
        (Bound::Included(least), _) if *least > 0.0 => format!("≥ {}{unit}", number(*least)),
        (_, Bound::Included(most)) if most.is_finite() => format!("≤ {}{unit}", number(*most)),
        _ => String::new(),
    };
    let met = match wanted.is_empty() {
        true => "",
        false if goal.contains(&rounds.median()) => "met",
        false => "**missed**",
    };
    let spread = if rounds.0.len() > 1 { format!(" ± {:.0} %", rounds.spread()) } else { String::new() };
    anstream::println!("| {what} | {}{unit}{spread} | {wanted} | {met} |", number(rounds.median()));
}

/// A line for whoever watches.
pub(crate) fn say(line: impl Display) {
    anstream::eprintln!("  {line}");
}

/// Three or four digits that count, with thousands marked.
pub(crate) fn number(value: f64) -> String {
    if value.abs() < 100.0 && value.fract() != 0.0 {
        return format!("{value:.2}");
    }
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 { format!("-{text}") } else { text }
}

/// A count as a float; past 2^53 nobody counts here.
#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
pub(crate) fn to_float(count: u64) -> f64 {
    count as f64
}
