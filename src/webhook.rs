//! Webhooks: services of others that are told of events, one after the other and at least once, in messages that are signed
//! as Standard Webhooks asks for.
//!
//! One node tells at a time, the one whose session holds a lock. How a delivery ended is an event, so that whoever takes
//! over goes on where it stood; what was on its way when a node was killed is told again, under the same `webhook-id`.

pub mod deliver;
pub mod message;
pub mod target;

#[cfg(test)]
mod tests {
    use crate::domain::webhook::KINDS;
    use crate::log::schema;

    #[test]
    fn what_can_be_told_is_on_disk_under_that_name() {
        let unknown = KINDS.iter().find(|kind| schema::KINDS.iter().all(|(known, _)| known != *kind));
        assert_eq!(unknown, None);
    }
}
