//! `portcullis incident replay`: forward and back through an incident on a terminal; elsewhere a list.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, poll, read};
use crossterm::terminal::{Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen};
use crossterm::{cursor, execute, terminal};
use serde_json::{Value, json};

use super::{Call, Failure, Session};
use crate::cli::output::{Column, Format, object_text};
use crate::cli::session::{Paging, pages};

const COLUMNS: &[Column] = &[
    ("position", "position"),
    ("what", "kind"),
    ("about", "subject"),
    ("when", "recorded_at"),
    ("seconds after the first sign", "after_seconds"),
    ("by", "name"),
    ("actor", "actor"),
    ("reason", "reason"),
    ("text", "text"),
    ("led to by position", "cause"),
    ("so many alike", "alike"),
    ("the last at position", "last"),
    ("workers looked at", "workers.looked_at"),
    ("accepted before", "workers.before"),
    ("accepted after", "workers.after"),
    ("in force everywhere", "in_force.at"),
    ("after seconds", "in_force.after_seconds"),
];

const LIST_COLUMNS: &[Column] = &[
    ("position", "position"),
    ("after s", "after_seconds"),
    ("what", "kind"),
    ("about", "subject"),
    ("by", "name"),
    ("before", "workers.before"),
    ("after", "workers.after"),
    ("everywhere after s", "in_force.after_seconds"),
    ("text", "text"),
];

/// As many as the service gives at a time: it begins to read the log anew, or at the end of the page before.
const PAGE_MAX: u64 = 10_000;

/// Where somebody looks, among so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    at: usize,
    count: usize,
}

pub(super) async fn run(session: &Session, incident: &str) -> Result<(), Failure> {
    let call = Call::get(&["v1", "incidents", incident, "replay"]);
    let on_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    if session.screen.format == Format::Json || !on_terminal {
        return session.list(call, &Paging::all_by(PAGE_MAX), LIST_COLUMNS).await;
    }
    let mut moments = Vec::new();
    let paging = Paging::all_by(PAGE_MAX);
    pages(&session.operator()?, call, &paging, |page| {
        for moment in page {
            gather(&mut moments, moment);
        }
        Ok(())
    })
    .await?;
    let shown = tokio::task::spawn_blocking(move || walk(&moments)).await;
    let shown = shown.map_err(|error| Failure::fault("the replay broke off", error))?;
    shown.map_err(|error| Failure::fault("cannot use the terminal", error))
}

/// Of what came of one event there is one moment for each kind, with how many there are: nobody goes step by step through a
/// million records, and a terminal's memory need not hold them.
fn gather(moments: &mut Vec<Value>, mut moment: Value) {
    let facts = moment["facts"].as_u64().unwrap_or(1);
    let cause = &moment["cause"];
    let of_it = moments.iter_mut().rev().take_while(|known| !cause.is_null() && known["cause"] == *cause);
    if let Some(first) = of_it.into_iter().find(|known| known["kind"] == moment["kind"]) {
        first["alike"] = json!(first["alike"].as_u64().unwrap_or(1) + facts);
        first["last"] = moment["position"].clone();
        return;
    }
    if facts > 1 {
        moment["alike"] = json!(facts);
    }
    moments.push(moment);
}

/// Until somebody has seen enough. The terminal is given back as it was, whatever happens.
fn walk(moments: &[Value]) -> io::Result<()> {
    terminal::enable_raw_mode()?;
    let result = execute!(io::stdout(), EnterAlternateScreen, cursor::Hide).and_then(|()| look(moments));
    let left = execute!(io::stdout(), LeaveAlternateScreen, cursor::Show);
    terminal::disable_raw_mode()?;
    result.and(left)
}

fn look(moments: &[Value]) -> io::Result<()> {
    let mut place = Place { at: 0, count: moments.len() };
    // From here on it is heard when the terminal gets another size: before the first page is shown in this one.
    poll(Duration::ZERO)?;
    loop {
        show(moments, place)?;
        match read()? {
            Event::Key(key) if key.kind != KeyEventKind::Release => match place.moved(key) {
                Some(next) => place = next,
                None => return Ok(()),
            },
            // Another size, above all: shown again.
            _ => {}
        }
    }
}

fn show(moments: &[Value], place: Place) -> io::Result<()> {
    let mut out = io::stdout().lock();
    execute!(out, Clear(ClearType::All), cursor::MoveTo(0, 0))?;
    // In raw mode a line does not begin at the left by itself.
    write!(out, "{}", page(moments, place).replace('\n', "\r\n"))?;
    out.flush()
}

fn page(moments: &[Value], place: Place) -> String {
    let Some(moment) = moments.get(place.at) else { return "There is nothing to replay. q ends.".to_owned() };
    let head = format!("{} of {}    \u{2190} back   \u{2192} forward   q end", place.at + 1, place.count);
    format!("{head}\n\n{}", object_text(COLUMNS, moment))
}

impl Place {
    /// `None`: away from here.
    fn moved(self, key: KeyEvent) -> Option<Self> {
        let last = self.count.saturating_sub(1);
        let at = match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return None,
            KeyCode::Char('q') | KeyCode::Esc => return None,
            KeyCode::Right | KeyCode::Down | KeyCode::Enter | KeyCode::Char('j' | 'l' | 'n' | ' ') => {
                last.min(self.at + 1)
            }
            KeyCode::Left | KeyCode::Up | KeyCode::Backspace | KeyCode::Char('k' | 'h' | 'p') => {
                self.at.saturating_sub(1)
            }
            KeyCode::Home | KeyCode::Char('g') => 0,
            KeyCode::End | KeyCode::Char('G') => last,
            _ => self.at,
        };
        Some(Self { at, ..self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_forward_and_back_and_never_past_an_end() {
        let mut place = Place { at: 0, count: 3 };
        for (code, at) in [
            (KeyCode::Left, 0),
            (KeyCode::Right, 1),
            (KeyCode::Char('j'), 2),
            (KeyCode::Right, 2),
            (KeyCode::Char('k'), 1),
            (KeyCode::Home, 0),
            (KeyCode::End, 2),
            (KeyCode::Char('x'), 2),
        ] {
            place = place.moved(KeyEvent::from(code)).unwrap();
            assert_eq!(place.at, at, "{code:?}");
        }
        assert_eq!(place.moved(KeyEvent::from(KeyCode::Char('q'))), None);
        assert_eq!(place.moved(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), None);
        assert_eq!(Place { at: 0, count: 0 }.moved(KeyEvent::from(KeyCode::Right)), Some(Place { at: 0, count: 0 }));
    }

    #[test]
    fn the_records_of_one_event_are_one_moment_of_each_kind() {
        // One of them is a list.
        let moment = |position: u64, kind: &str, cause: Option<u64>| json!({ "position": position, "kind": kind, "cause": cause, "facts": if position == 5 { 1_000 } else { 1 } });
        let mut moments = Vec::new();
        for (position, kind, cause) in [
            (1, "incident.noted", None),
            (2, "incident.noted", None),
            (3, "plan.applied", None),
            (4, "key.revoked", Some(3)),
            (5, "key.revoked", Some(3)),
            (6, "plan.progressed", Some(3)),
            (7, "key.revoked", Some(3)),
            (8, "incident.noted", None),
            (9, "key.revoked", Some(3)),
        ] {
            gather(&mut moments, moment(position, kind, cause));
        }
        let shown = |it: &Value| (it["position"].as_u64().unwrap(), it["alike"].as_u64(), it["last"].as_u64());
        let shown: Vec<_> = moments.iter().map(shown).collect();
        let one = |position| (position, None, None);
        assert_eq!(shown, [one(1), one(2), one(3), (4, Some(1_002), Some(7)), one(6), one(8), one(9)]);
    }

    #[test]
    fn a_page_shows_one_moment_and_no_control_characters() {
        let moments =
            [json!({ "kind": "worker.isolated", "text": "a\u{1b}[2J", "workers": { "before": 3, "after": 2 } })];
        let shown = page(&moments, Place { at: 0, count: 1 });
        assert!(shown.contains("worker.isolated") && shown.contains("1 of 1"), "{shown}");
        assert!(!shown.contains('\u{1b}'), "{shown}");
        assert!(page(&[], Place { at: 0, count: 0 }).contains("nothing"));
    }
}
