//! How long single calls took: not the mean, which nobody waits for.

use super::report::to_float;

/// The value below which this part of the samples lies. Sorts them.
pub(crate) fn percentile(samples: &mut [u64], part: f64) -> f64 {
    if samples.is_empty() {
        return f64::NAN;
    }
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index"
    )]
    let at = ((samples.len() - 1) as f64 * part) as usize;
    let (_, value, _) = samples.select_nth_unstable(at);
    to_float(*value)
}
