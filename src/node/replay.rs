//! The Roll from the log: every event in order, every seal checked, nothing believed that a node did not write.
//!
//! A pipeline of four, because the log may hold millions: one task reads rows, one thread checks the seals, one what is said
//! under them, one folds.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread;

use tokio::sync::mpsc;
use tokio_postgres::Client;

use crate::credential::root_key::DerivedKeys;
use crate::domain::event::Recorded;
use crate::domain::ids::LogId;
use crate::domain::roll::Roll;
use crate::log::head::Head;
use crate::log::raw::RawEvents;
use crate::log::read::{self, ChunkMax};
use crate::log::seal::Seals;
use crate::log::seen::Seen;
use crate::log::{LogFault, Tampered};
use crate::node::recent::Taken;
use crate::node::{background, snapshot};

/// Events in one hand-over between the stages: enough that the hand-over costs nothing, few enough to stay in the cache.
const CHUNK_EVENTS: usize = 1_024;
/// And fewer of those that are lists of keys: several chunks are in memory at a time.
const CHUNK_BYTES: usize = 4 << 20;
const CHUNK: ChunkMax = ChunkMax { events: CHUNK_EVENTS, bytes: CHUNK_BYTES };
/// Chunks that may wait between two stages.
const CHUNKS_WAITING: usize = 8;
/// And between the two that check, which are about as fast as each other: the rows of both queues are in memory.
const CHUNKS_SEALED: usize = 2;
/// Buffers of rows that are kept to be filled again: those of both queues, and what each stage has in hand.
const CHUNKS_IN_HAND: usize = CHUNKS_WAITING + CHUNKS_SEALED + 3;
/// Chunks of events that were taken up and wait to be dropped where they were made: what is in them stays in memory so long.
const CHUNKS_SPENT: usize = 2;
/// Events of one statement, where the connection is one of those that end a statement which takes too long: a fraction of a
/// second's work, and still nothing to ask for so often.
const SECTION_EVENTS: u64 = 8 * CHUNK_EVENTS as u64;

/// By what statements a pass reads.
#[derive(Clone, Copy, Default)]
enum Reading {
    /// By one.
    #[default]
    Whole,
    /// By one that is faster, and another each time.
    Copied,
    /// By one for each so many events.
    Sections(u64),
}

/// How a pass through the log goes about it.
#[derive(Default)]
struct Manner {
    reading: Reading,
    /// What has to be passed on the way.
    seen: Option<Seen>,
    /// Whether those who are served come first: of a node that starts nobody is yet, and a replay can take minutes.
    gives_way: bool,
}

/// The state that was folded, and the head that it ends at.
pub struct Folded {
    pub roll: Roll,
    pub head: Head,
}

/// What this node knows of the log from before, beside its snapshots.
#[derive(Clone, Copy, Default)]
pub struct Remembered<'a> {
    /// From the file that says it.
    pub seen: Option<&'a Seen>,
    /// Where the mirror ends.
    pub mirrored: Option<&'a Seen>,
}

/// Folds the whole log from nothing, and checks that it ends as the head says, and that all of it is there that was `seen`.
pub async fn fold(
    client: &Client,
    keys: &Arc<DerivedKeys>,
    log: LogId,
    seen: Option<&Seen>,
) -> Result<Folded, LogFault> {
    if seen.is_some_and(|seen| seen.log != log) {
        return Err(Tampered::OtherHistory { position: 0 }.into());
    }
    let start = Folded { roll: Roll::default(), head: Head::genesis(keys, log) };
    let end = Head::read(client).await?;
    let manner = Manner { seen: seen.cloned(), reading: Reading::Copied, gives_way: true };
    // On the heap: who starts a node holds much already.
    let folded = Box::pin(read_on(client, keys, start, &end, manner)).await?;
    seen.map_or(Ok(()), |seen| seen.check_end(&folded.head))?;
    Ok(folded)
}

/// The same, but for what is in a snapshot already: that is not read, and only what came after is checked. A log that ends
/// before a snapshot of it, or that has another event there, is refused: it was whole when that was taken.
pub async fn resume(
    client: &Client,
    keys: &Arc<DerivedKeys>,
    log: LogId,
    remembered: Remembered<'_>,
    snapshots: snapshot::Found,
) -> Result<Folded, LogFault> {
    let end = Head::read(client).await?;
    if let Some(newest) = &snapshots.seen {
        newest.check_against(client, log, &end).await?;
    }
    let Some(start) = snapshots.state else {
        let folded = fold(client, keys, log, remembered.seen).await?;
        if let Some(mirrored) = remembered.mirrored {
            mirrored.check_against(client, log, &folded.head).await?;
        }
        return Ok(folded);
    };
    for known in [remembered.seen, remembered.mirrored].into_iter().flatten() {
        known.check_against(client, log, &end).await?;
    }
    let manner = Manner { reading: Reading::Copied, gives_way: true, ..Manner::default() };
    Box::pin(read_on(client, keys, start, &end, manner)).await
}

/// Folds what lies between the state and `end`.
pub async fn catch_up(client: &Client, keys: &Arc<DerivedKeys>, from: Folded, end: &Head) -> Result<Folded, LogFault> {
    read_on(client, keys, from, end, Manner::default()).await
}

/// The same where the events are at hand, all of them. They are given back as they were understood.
pub fn take_in(
    keys: &DerivedKeys,
    from: Folded,
    end: &Head,
    events: &RawEvents,
) -> Result<(Folded, Vec<Taken>), LogFault> {
    check_onward(&from.head, end)?;
    let Folded { mut roll, mut head } = from;
    let mut taken = Vec::with_capacity(events.len());
    for raw in events.iter() {
        let is_long = raw.is_long();
        let recorded = background::aside(is_long, || read::unseal(&raw, &mut head, keys))?;
        if is_long {
            thread::yield_now();
        }
        background::aside(recorded.event.is_sweeping(), || roll.apply(&recorded));
        taken.push(Taken { recorded: Arc::new(recorded), bytes: raw.entry_bytes() });
        if is_long {
            // A list, about what is in force by an event before it: whoever waits for this core comes first.
            thread::yield_now();
        }
    }
    read::check_end(&head, end)?;
    head.version = end.version;
    Ok((Folded { roll, head }, taken))
}

/// The state as it was before the event at `position`. Every seal on the way is checked; where the log ends is not.
pub async fn fold_before(
    client: &Client,
    keys: &Arc<DerivedKeys>,
    log: LogId,
    position: u64,
) -> Result<Roll, LogFault> {
    let start = Folded { roll: Roll::default(), head: Head::genesis(keys, log) };
    let Folded { roll, head } = fold_up_to(client, keys, start, position, Manner::default()).await?;
    if head.next_position < position {
        return Err(Tampered::Missing { position: head.next_position }.into());
    }
    Ok(roll)
}

/// Shows the events from `from` up to, and without, `end` to `see`, oldest first and with every seal checked, and gives back
/// what it has made of them. They come in chunks, each with where it begins: from there another pass can go on. It ends where
/// `see` says so; where the log ends is not checked.
///
/// However long it takes, no statement takes long: the connection may be one that serves requests.
pub async fn look_through<S: Send + 'static>(
    client: &Client,
    keys: &Arc<DerivedKeys>,
    from: Head,
    end: u64,
    state: S,
    see: impl FnMut(&mut S, &Head, &[Recorded]) -> ControlFlow<()> + Send + 'static,
) -> Result<S, LogFault> {
    let manner = Manner { reading: Reading::Sections(SECTION_EVENTS), gives_way: true, ..Manner::default() };
    match pass(client, keys, from, end, manner, state, see).await? {
        (_, ControlFlow::Continue(head)) if head.next_position < end => {
            Err(Tampered::Missing { position: head.next_position }.into())
        }
        (state, ControlFlow::Continue(_) | ControlFlow::Break(())) => Ok(state),
    }
}

async fn read_on(
    client: &Client,
    keys: &Arc<DerivedKeys>,
    from: Folded,
    end: &Head,
    manner: Manner,
) -> Result<Folded, LogFault> {
    check_onward(&from.head, end)?;
    let mut folded = fold_up_to(client, keys, from, end.next_position, manner).await?;
    read::check_end(&folded.head, end)?;
    folded.head.version = end.version;
    Ok(folded)
}

/// Whether a log that ends at `end` can be the one that is known up to `known`.
fn check_onward(known: &Head, end: &Head) -> Result<(), LogFault> {
    // As long as what is known, and not the same. (Of a log that is read from its beginning nothing is known yet.)
    if end.next_position == known.next_position && end.seals != known.seals && known.next_position > 0 {
        return Err(Tampered::OtherHistory { position: known.next_position }.into());
    }
    if end.next_position < known.next_position || end.version < known.version {
        let (known, found) = (known.next_position, end.next_position);
        return Err(Tampered::WentBack { known, found }.into());
    }
    Ok(())
}

async fn fold_up_to(
    client: &Client,
    keys: &Arc<DerivedKeys>,
    from: Folded,
    end: u64,
    manner: Manner,
) -> Result<Folded, LogFault> {
    let Folded { roll, head } = from;
    let take_up = |roll: &mut Roll, _: &Head, events: &[Recorded]| {
        roll.apply_all(events);
        ControlFlow::Continue(())
    };
    match pass(client, keys, head, end, manner, roll, take_up).await? {
        (roll, ControlFlow::Continue(head)) => Ok(Folded { roll, head }),
        (_, ControlFlow::Break(())) => unreachable!("a fold takes up all"),
    }
}

/// Rows whose seals are right, and the seals before the first of them.
struct SealedChunk {
    seals: Seals,
    rows: RawEvents,
}

/// Events that were checked, and where they begin.
type Chunk = (Head, Vec<Recorded>);

/// Reads from `head` up to, and without, `end`; the events that were checked are taken up into the state, until that is enough.
/// Gives back where it ended, unless that was enough: then what lies further on was read in part, and is nobody's yet.
async fn pass<S: Send + 'static>(
    client: &Client,
    keys: &Arc<DerivedKeys>,
    mut head: Head,
    end: u64,
    manner: Manner,
    state: S,
    take_up: impl FnMut(&mut S, &Head, &[Recorded]) -> ControlFlow<()> + Send + 'static,
) -> Result<(S, ControlFlow<(), Head>), LogFault> {
    let Manner { reading, seen, gives_way } = manner;
    let (raw_sender, raw_receiver) = mpsc::channel::<RawEvents>(CHUNKS_WAITING);
    let (empty_sender, mut empty_receiver) = mpsc::channel::<RawEvents>(CHUNKS_IN_HAND);
    let (sealed_sender, sealed_receiver) = mpsc::channel::<SealedChunk>(CHUNKS_SEALED);
    let (sender, receiver) = mpsc::channel::<Chunk>(CHUNKS_WAITING);
    let (spent_sender, mut spent_receiver) = mpsc::channel::<Vec<Recorded>>(CHUNKS_SPENT);

    let first = head.next_position;
    let (seals, sealing_keys) = (head.seals.clone(), keys.clone());
    let check = background::blocking(gives_way, move || {
        check_chunks(raw_receiver, &sealed_sender, first, seals, &sealing_keys, seen.as_ref())
    });
    let understand = background::blocking(gives_way, move || {
        let result = understand_chunks(sealed_receiver, &sender, &empty_sender, &mut spent_receiver, &mut head);
        result.map(|()| head)
    });
    let apply = background::blocking(gives_way, move || apply_chunks(receiver, &spent_sender, state, take_up));

    let read = read_rows(client, first, end, reading, &raw_sender, &mut empty_receiver).await;
    drop(raw_sender);

    let checked = check.await.expect("the checking thread does not panic");
    let understood = understand.await.expect("the understanding thread does not panic");
    let (state, flow) = apply.await.expect("the folding thread does not panic");
    if flow.is_break() {
        return Ok((state, ControlFlow::Break(())));
    }
    // What the checks found comes first: a reader that was hung up on has nothing to tell. And what is wrong under a right seal
    // stands before whatever was found wrong of the seals meanwhile.
    let mut head = understood?;
    head.seals = checked?;
    read?;
    Ok((state, ControlFlow::Continue(head)))
}

async fn read_rows(
    client: &Client,
    first: u64,
    end: u64,
    reading: Reading,
    sender: &mpsc::Sender<RawEvents>,
    empty: &mut mpsc::Receiver<RawEvents>,
) -> Result<(), LogFault> {
    let mut hand_on = |chunk| {
        let next = empty.try_recv().unwrap_or_default();
        async move { sender.send(chunk).await.is_ok().then_some(next) }
    };
    let section = match reading {
        Reading::Copied => return read::stream_copied(client, first, end, CHUNK, hand_on).await,
        Reading::Whole => u64::MAX,
        Reading::Sections(events) => events,
    };
    let mut from = first;
    // A log without events is asked too: there may be some all the same.
    loop {
        let to = end.min(from.saturating_add(section));
        read::stream(client, from, to, CHUNK, &mut hand_on).await?;
        if to >= end || sender.is_closed() {
            return Ok(());
        }
        from = to;
    }
}

/// Gives back the seals after the last row. Rows whose seals are right are handed on also where a fault comes after them: what
/// they say may be one, and comes first.
fn check_chunks(
    mut chunks: mpsc::Receiver<RawEvents>,
    sender: &mpsc::Sender<SealedChunk>,
    mut next_position: u64,
    mut seals: Seals,
    keys: &DerivedKeys,
    seen: Option<&Seen>,
) -> Result<Seals, LogFault> {
    while let Some(mut rows) = chunks.blocking_recv() {
        let (before, mut sealed_right) = (seals.clone(), 0);
        let checked = rows.iter().try_for_each(|raw| {
            read::check_seals(&raw, next_position, &mut seals, keys)?;
            (next_position, sealed_right) = (next_position + 1, sealed_right + 1);
            seen.map_or(Ok(()), |seen| seen.check_passing(next_position, &seals.mac))
        });
        rows.truncate(sealed_right);
        let goes_on = sender.blocking_send(SealedChunk { seals: before, rows }).is_ok();
        checked?;
        if !goes_on {
            break;
        }
    }
    Ok(seals)
}

/// Moves `head` past the last of them, but for its seals.
fn understand_chunks(
    mut chunks: mpsc::Receiver<SealedChunk>,
    sender: &mpsc::Sender<Chunk>,
    empty: &mpsc::Sender<RawEvents>,
    spent: &mut mpsc::Receiver<Vec<Recorded>>,
    head: &mut Head,
) -> Result<(), LogFault> {
    while let Some(SealedChunk { seals, rows }) = chunks.blocking_recv() {
        let begins = Head { seals, ..head.clone() };
        // What was made here is mostly dropped here: that takes less than on another thread, and the room is filled again.
        let mut events = spent.try_recv().unwrap_or_default();
        events.clear();
        events.reserve(rows.len());
        for raw in rows.iter() {
            events.push(read::understand(&raw, head)?);
        }
        // Where nobody wants it any more, or there are enough, it is one less.
        let _ = empty.try_send(rows.emptied());
        if sender.blocking_send((begins, events)).is_err() {
            break;
        }
    }
    Ok(())
}

fn apply_chunks<S>(
    mut chunks: mpsc::Receiver<Chunk>,
    spent: &mpsc::Sender<Vec<Recorded>>,
    mut state: S,
    mut take_up: impl FnMut(&mut S, &Head, &[Recorded]) -> ControlFlow<()>,
) -> (S, ControlFlow<()>) {
    while let Some((begins, chunk)) = chunks.blocking_recv() {
        if take_up(&mut state, &begins, &chunk).is_break() {
            return (state, ControlFlow::Break(()));
        }
        // Where enough wait to be filled again, it is dropped here.
        let _ = spent.try_send(chunk);
    }
    (state, ControlFlow::Continue(()))
}
