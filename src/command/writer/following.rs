//! Following the log: what other nodes append becomes this node's Roll, and what nobody appends keeps it current.

use super::link::{Link, no_link, patient, unhurried};
use super::{Setback, Writer};
use crate::domain::roll::Roll;
use crate::log::head::Head;
use crate::node::NotCurrent;
use crate::node::lease::Uptime;
use crate::node::mirroring::{FOLLOWED_BYTES_MAX, Fresh};
use crate::node::presence::{self, Identity};
use crate::node::replay::{self, Folded};

/// So many events are read over a connection of their own, which has the time: the writer's ends what takes long.
const LONG_READ: u64 = 1 << 16;

/// What the channel of appends says.
pub(super) enum Heard {
    Position(u64),
    Unclear,
    Closed,
}

impl Writer {
    /// Another node says that it has appended. Our own appends are heard too, and known already.
    pub(super) async fn look_again(&mut self, heard: Heard) {
        match heard {
            Heard::Position(position) if position <= self.head.next_position => {}
            Heard::Position(_) | Heard::Unclear => self.follow_or_reconnect().await,
            Heard::Closed => self.link = None,
        }
    }

    /// Puts the node on the list, and then follows to a head that is read afterwards. Answers from when on its lease counts.
    pub(super) async fn take_lease(&mut self, identity: &Identity) -> Result<Uptime, Setback> {
        let (sent, length) = (Uptime::now(), self.node.lease().length());
        patient(presence::enlist(self.client()?, identity, self.head.next_position, length)).await?;
        self.follow().await?;
        self.node.lease().renewed(sent);
        Ok(sent)
    }

    pub(super) async fn follow_or_reconnect(&mut self) {
        if matches!(self.node.check_current(), Err(NotCurrent::Stopped(_))) {
            return;
        }
        // What an old primary still shows is no newer than what is known.
        self.link.take_if(|link| link.session.is_superseded());
        let followed = match &self.link {
            Some(_) => self.follow().await,
            None => match self.connect().await {
                Ok(()) => self.follow().await,
                Err(setback) => Err(setback),
            },
        };
        match followed {
            Ok(_) | Err(Setback::Again) => {}
            Err(Setback::Fault(fault)) => self.node.stop(&fault),
            Err(Setback::Lost(why) | Setback::Refused(why) | Setback::Stopped(why)) => {
                tracing::warn!(why, "cannot follow the log");
                self.link = None;
            }
        }
    }

    /// Reads what is new. True if there was something.
    pub(super) async fn follow(&mut self) -> Result<bool, Setback> {
        let asked = Uptime::now();
        let Link { session, look, .. } = self.link.as_ref().ok_or_else(no_link)?;
        let (head, events) = patient(look.at(&session.client, self.head.next_position)).await?;
        match events {
            Some(events) if head != self.head => {
                let here = Folded { roll: self.roll.clone(), head: self.head.clone() };
                let first = here.head.next_position;
                let (there, taken) = replay::take_in(&self.keys, here, &head, &events)?;
                self.node.recent().add(taken);
                self.move_to(there.roll, there.head, asked)?;
                if events.bytes() <= FOLLOWED_BYTES_MAX {
                    self.hand_to_mirror(|| Some(Fresh { first, entries: events.entries()? }));
                }
                Ok(true)
            }
            Some(_) | None => self.follow_to(&head, asked).await,
        }
    }

    pub(super) async fn follow_to(&mut self, head: &Head, asked: Uptime) -> Result<bool, Setback> {
        if *head == self.head {
            self.node.confirm(asked);
            return Ok(false);
        }
        let here = Folded { roll: self.roll.clone(), head: self.head.clone() };
        let there = if head.next_position.saturating_sub(here.head.next_position) < LONG_READ {
            replay::catch_up(self.client()?, &self.keys, here, head).await?
        } else {
            let session = self.database.session().await.map_err(|error| Setback::Lost(error.to_string()))?;
            unhurried(&session.client).await?;
            replay::catch_up(&session.client, &self.keys, here, head).await?
        };
        self.move_to(there.roll, there.head, asked)?;
        Ok(true)
    }

    /// Where it has no room, the mirror reads from the log: nobody waits for it.
    pub(super) fn hand_to_mirror(&self, fresh: impl FnOnce() -> Option<Fresh>) {
        if let Some(room) = self.mirror.as_ref().and_then(|mirror| mirror.try_reserve().ok())
            && let Some(fresh) = fresh()
        {
            room.send(fresh);
        }
    }

    /// The state that the log had at `asked`, or later.
    pub(super) fn move_to(&mut self, roll: Roll, head: Head, asked: Uptime) -> Result<(), Setback> {
        self.node.publish(roll.clone())?;
        self.metrics.set_log_position(head.next_position);
        self.published.send_replace(head.clone());
        (self.roll, self.head) = (roll, head);
        self.node.confirm(asked);
        Ok(())
    }
}

pub(super) async fn hear(link: &mut Option<Link>) -> Heard {
    match link {
        None => std::future::pending().await,
        Some(link) => match link.session.notifications.recv().await {
            Some(notification) => notification.payload().parse().map_or(Heard::Unclear, Heard::Position),
            None => Heard::Closed,
        },
    }
}
