//! The parts of readmissions: waves, and the bounds that stop them.

use utoipa::openapi::schema::Object;

use super::{integer, one_of};
use crate::domain::readmission::{BOUND_MAX, Stage, WAVE_SIZE_MAX, WAVES_MAX};

pub(in crate::http) fn wave_size() -> Object {
    integer(1, WAVE_SIZE_MAX.into()).build()
}

pub(in crate::http) fn wave_number() -> Object {
    integer(1, WAVES_MAX).build()
}

pub(in crate::http) fn bound() -> Object {
    integer(0, BOUND_MAX).build()
}

pub(in crate::http) fn readmission_state() -> Object {
    one_of(["made", "expired"].into_iter().chain(Stage::ALL.map(Stage::as_str)))
}

pub(in crate::http) fn waits_for() -> Object {
    one_of(["time", "keys", "wave"])
}
