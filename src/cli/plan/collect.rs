//! `plan collect`: the new secrets of an applied plan, into a file of their owner's alone.
//!
//! The file begins with the key that all requests are repeated under, which is as secret as what follows: so an interrupted
//! collection goes on where it stopped, and a page whose answer was lost is given again. After each page stands how far it goes.

use std::fs::{File, OpenOptions};
use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cli::client::Call;
use crate::cli::dry_run::{self, DryRun};
use crate::cli::failure::Failure;
use crate::cli::handover::{check_free, create_private};
use crate::cli::session::Session;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The plan's id.
    plan: String,
    /// Where the new secrets go, one JSON object a line: a new file, for its owner alone.
    #[arg(long, value_name = "FILE")]
    secrets_file: PathBuf,
    /// Go on with a file that was begun.
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    dry: DryRun,
}

/// Where new secrets go, where there are some.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Into {
    /// Collect the new secrets into this file, one JSON object a line: a new file, for its owner alone.
    #[arg(long, value_name = "FILE")]
    secrets_file: Option<PathBuf>,
}

/// A file to collect into, and how far it has come.
pub(in crate::cli) struct Place {
    path: PathBuf,
    file: File,
    /// What all pages are asked for under.
    key: String,
    done: u64,
    /// Whether its first line stands. Where nothing was applied after all, no file is left in the way of the next attempt.
    begun: bool,
}

/// What a file says that was begun.
struct Begun {
    key: String,
    done: u64,
    /// How long it is up to its last whole page.
    whole: usize,
}

/// What came of one request.
struct Page {
    count: usize,
    total: u64,
}

impl Into {
    pub(in crate::cli) fn is_wanted(&self) -> bool {
        self.secrets_file.is_some()
    }

    /// Whether the file could be made, where one is wanted.
    pub(in crate::cli) fn check(&self) -> Result<(), Failure> {
        self.secrets_file.as_deref().map_or(Ok(()), check_free)
    }

    pub(in crate::cli) fn reserve(&self) -> Result<Option<Place>, Failure> {
        self.secrets_file.clone().map(Place::create).transpose()
    }
}

impl Place {
    pub(in crate::cli) fn create(path: PathBuf) -> Result<Self, Failure> {
        let file = create_private(&path)?;
        Ok(Self { path, file, key: uuid::Uuid::new_v4().to_string(), done: 0, begun: false })
    }

    /// Cuts off what came after the last whole page, which is asked for again.
    pub(in crate::cli) fn reopen(path: PathBuf, plan: &str) -> Result<Self, Failure> {
        let fault = |error| Failure::fault(format_args!("cannot go on with {}", path.display()), error);
        let Begun { key, done, whole } = Begun::read(&path, plan)?;
        let mut file = OpenOptions::new().write(true).open(&path).map_err(fault)?;
        file.set_len(whole as u64).and_then(|()| file.seek(std::io::SeekFrom::End(0))).map_err(fault)?;
        Ok(Self { path, file, key, done, begun: true })
    }

    /// What was collected into another file, up to `done`, is not collected again.
    fn begin(&mut self, plan: &str, done: u64) -> Result<(), Failure> {
        (self.done, self.begun) = (done, true);
        self.write(&[json!({ "plan": plan, "collection": self.key, "done": done })])
    }

    /// Collects the next page.
    async fn page(&mut self, session: &Session, plan: &str) -> Result<Page, Failure> {
        let call = Call::post(&["v1", "plans", plan, "collect"]).json(json!({ "done": self.done }));
        let key = format!("{}-{}", self.key, self.done);
        // With nothing of the session beside: whoever goes on with the file may have another reason, or be in no incident, and has
        // to get the same page. The plan's own incident is carried anyhow.
        let mut page = session.operator()?.without_incident().send(&call.once(Some(&key))).await?.body;
        let (done, total) = (page["done"].as_u64().unwrap_or_default(), page["total"].as_u64().unwrap_or_default());
        let Value::Array(mut lines) = page["items"].take() else {
            return Err(Failure::Fault(anyhow::anyhow!("the service answered a page without `items`")));
        };
        let count = lines.len();
        lines.push(json!({ "done": done }));
        self.write(&lines)?;
        self.done = done;
        Ok(Page { count, total })
    }

    /// Collects what there is by now for workers of a readmission: `keyed` of them have theirs, and `released` are back.
    pub(in crate::cli) async fn catch_up(
        &mut self,
        session: &Session,
        plan: &str,
        keyed: u64,
        released: u64,
    ) -> Result<usize, Failure> {
        if !self.begun {
            self.begin(plan, keyed)?;
        }
        let mut count = 0;
        // An answer is kept under the key of its page, so that a page is asked for only where there is something on it.
        while self.done < released {
            let before = self.done;
            count += self.page(session, plan).await?.count;
            if self.done <= before {
                break;
            }
        }
        Ok(count)
    }

    pub(in crate::cli) fn say(&self, session: &Session, count: usize) {
        session.screen.note(format_args!("{count} new secrets are in {}, and nowhere else.", self.path.display()));
    }

    fn write(&mut self, lines: &[Value]) -> Result<(), Failure> {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let text = zeroize::Zeroizing::new(text);
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_all());
        written.map_err(|error| Failure::fault(format_args!("cannot write to {}", self.path.display()), error))
    }
}

impl Begun {
    fn read(path: &Path, plan: &str) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|error| Failure::fault(format_args!("cannot go on with {}", path.display()), error))?;
        let (mut whole, mut at, mut done, mut key) = (0, 0, 0, None);
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            at += line.len();
            let read: Value = serde_json::from_str(line).unwrap_or_default();
            if read["plan"] == plan {
                (key, whole) = (read["collection"].as_str().map(str::to_owned), at);
                done = read["done"].as_u64().unwrap_or_default();
            } else if let Some(count) = read["done"].as_u64() {
                (done, whole) = (count, at);
            }
        }
        let key = key.ok_or_else(|| Failure::Usage(format!("{} is no collection of this plan", path.display())))?;
        Ok(Self { key, done, whole })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.begun {
            // It is empty; who cannot remove it finds it there.
            std::fs::remove_file(&self.path).ok();
        }
    }
}

pub(super) async fn run(args: Args, session: &Session) -> Result<(), Failure> {
    let Args { plan, secrets_file, resume, dry } = args;
    if dry.is_asked() {
        let found = session.read(Call::get(&["v1", "plans", &plan])).await?;
        let done = found["progress"]["done"].as_u64().unwrap_or_default();
        return foresee(session, &plan, &secrets_file, resume, done).await;
    }
    let file = secrets_file.display().to_string();
    let place = if resume { Place::reopen(secrets_file, &plan)? } else { Place::create(secrets_file)? };
    into(session, &plan, Some(place)).await?;
    let found = session.read(Call::get(&["v1", "plans", &plan])).await?;
    let collected = json!({ "plan": plan, "state": found["state"], "file": file });
    session.screen.object(&[("plan", "plan"), ("state", "state"), ("file", "file")], &collected)
}

/// Shows what collecting the next page would record, where `done` have been dealt with. The file stays as it is.
pub(in crate::cli) async fn foresee(
    session: &Session,
    plan: &str,
    secrets_file: &Path,
    resume: bool,
    done: u64,
) -> Result<(), Failure> {
    let done = if resume { Begun::read(secrets_file, plan)?.done } else { check_free(secrets_file).map(|()| done)? };
    let call = Call::post(&["v1", "plans", plan, "collect"]).json(json!({ "done": done }));
    dry_run::show(session.screen, session.foresee(call).await?, None)
}

/// Collects page after page.
pub(super) async fn into(session: &Session, plan: &str, place: Option<Place>) -> Result<(), Failure> {
    let Some(mut place) = place else { return Ok(()) };
    if !place.begun {
        let found = session.read(Call::get(&["v1", "plans", plan])).await?;
        place.begin(plan, found["progress"]["done"].as_u64().unwrap_or_default())?;
    }
    let mut count = 0;
    loop {
        let before = place.done;
        let page = place.page(session, plan).await?;
        count += page.count;
        if place.done >= page.total || place.done <= before {
            place.say(session, count);
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collection_goes_on_after_its_last_whole_page() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("new.jsonl");
        let mut place = Place::create(path.clone()).expect("a new file");
        place.begin("p", 0).expect("written");
        place.write(&[json!({ "id": "k1", "secret": "s1" }), json!({ "done": 100 })]).expect("written");
        place.write(&[json!({ "id": "k2", "secret": "s2" })]).expect("written");
        let again = Place::reopen(path.clone(), "p").expect("a collection");
        assert_eq!((again.done, &again.key, again.begun), (100, &place.key, true));
        let text = std::fs::read_to_string(&path).expect("the file");
        assert!(text.contains("s1") && !text.contains("s2") && text.ends_with('\n'), "{text}");
        assert!(matches!(Place::reopen(path, "q"), Err(Failure::Usage(_))), "of another plan");
    }

    #[test]
    fn a_collection_that_began_after_another_goes_on_there_and_one_that_never_began_leaves_no_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("rest.jsonl");
        drop(Place::create(path.clone()).expect("a new file"));
        assert!(!path.exists());
        Place::create(path.clone()).expect("a new file").begin("p", 100).expect("written");
        assert_eq!(Place::reopen(path, "p").expect("a collection").done, 100);
    }
}
