//! What somebody sees who sits at a terminal: a replay to walk through, a question before something is taken away, a bar that
//! grows, and an answer that a screen can hold.

use super::Shell;
use crate::support::cluster::Scratch;
use crate::support::service::Service;
use crate::support::terminal::Terminal;

const RIGHT: &str = "\u{1b}[C";
const LEFT: &str = "\u{1b}[D";
const END: &str = "\u{1b}[F";
const HOME: &str = "\u{1b}[H";
const CONTROL_C: &str = "\u{3}";
/// What a program writes to give the screen back.
const LEAVE: &str = "\u{1b}[?1049l";
/// As many lines as a terminal has that nobody has made larger, and as many columns as one that somebody has.
const ROWS: u16 = 24;
const COLUMNS: u16 = 100;

/// An incident that is worked on, once what was taken away for it is known to be gone everywhere.
async fn incident(service: &Service, shell: &Shell) {
    shell.run("worker create --id probe-1").await.ok();
    shell.run("incident open Leak --severity high --scope worker:probe-1").await.ok();
    shell.run("worker isolate probe-1 --yes --incident INC-1 --reason odd-traffic").await.ok();
    shell.run("incident note the-owner-was-called --incident INC-1").await.ok();
    shell.run("incident note --review nothing-else --incident INC-1").await.ok();
    let settled = async || {
        let events = service.get("/v1/events?incident=INC-1&kind=barrier.passed").await.expect(200);
        !events["items"].as_array().unwrap().is_empty()
    };
    service.until("it is in force everywhere", settled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_walked_forward_and_back_and_gives_the_terminal_back() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let shell = Shell::beside(&service);
    incident(&service, &shell).await;
    let replay = shell.json("incident replay INC-1").await;
    let moments: Vec<&str> =
        replay["items"].as_array().unwrap().iter().map(|moment| moment["kind"].as_str().unwrap()).collect();
    let walk = || Terminal::run(shell.command("incident replay INC-1"), COLUMNS, ROWS);
    let shows = |terminal: &mut Terminal, place: usize| {
        terminal.shows(&format!("{} of {} ", place + 1, moments.len()));
        terminal.shows(moments[place]);
    };
    let last = moments.len() - 1;
    assert!(last > 2, "{moments:?}");
    tokio::task::block_in_place(|| {
        let mut terminal = walk();
        shows(&mut terminal, 0);
        assert!(!terminal.is_by_lines(), "each key counts by itself");
        // Nothing is before the first.
        terminal.types(LEFT);
        terminal.types(RIGHT);
        shows(&mut terminal, 1);
        terminal.shows("odd-traffic");
        for place in 2..=last {
            terminal.types(if place % 2 == 0 { "j" } else { RIGHT });
            shows(&mut terminal, place);
        }
        terminal.types("k");
        shows(&mut terminal, last - 1);
        terminal.types(HOME);
        shows(&mut terminal, 0);
        terminal.types(END);
        shows(&mut terminal, last);
        // And nothing after the last.
        terminal.types(RIGHT);
        terminal.types(LEFT);
        shows(&mut terminal, last - 1);
        terminal.types("q");
        assert_eq!(terminal.code(), Some(0), "{}", terminal.all().escape_debug());
        assert!(terminal.all().contains(LEAVE) && terminal.is_by_lines(), "{}", terminal.all().escape_debug());

        let mut terminal = walk();
        shows(&mut terminal, 0);
        terminal.types(CONTROL_C);
        assert_eq!(terminal.code(), Some(0));
        assert!(terminal.is_by_lines());

        // In another size it is shown again, by itself.
        let mut terminal = Terminal::led(&shell.command("incident replay INC-1"), COLUMNS, ROWS);
        shows(&mut terminal, 0);
        for columns in [COLUMNS / 2, COLUMNS] {
            terminal.resize(columns, ROWS);
            shows(&mut terminal, 0);
        }
        terminal.types("q");
        terminal.code();
    });
}

fn lines(terminal: &mut Terminal) -> Vec<String> {
    assert_eq!(terminal.code(), Some(0), "{}", terminal.all().escape_debug());
    terminal.all().lines().map(|line| line.trim_end().to_owned()).collect()
}

/// Whoever asks what there is to do must not have to scroll for it.
#[tokio::test(flavor = "multi_thread")]
async fn an_incident_and_a_plan_are_each_shown_on_one_screen() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let shell = Shell::beside(&service);
    incident(&service, &shell).await;
    shell.run("incident update INC-1 --first-sign 40m --person alice --person bob --incident INC-1").await.ok();
    shell.run("incident step rotate done --incident INC-1 --reason by-the-owners-on-the-phone").await.ok();
    shell.run("incident step restore waived --incident INC-1 --reason no-data-was-touched").await.ok();
    let plan = shell.json("plan isolate pool:default --until 2h --yes --incident INC-1").await;
    let plan = plan["id"].as_str().unwrap().to_owned();
    let screen = |line: &str| {
        let mut terminal = Terminal::run(shell.command(line), COLUMNS, ROWS);
        let lines = tokio::task::block_in_place(|| lines(&mut terminal));
        // One is left for the prompt.
        assert!(lines.len() < usize::from(ROWS), "{} lines:\n{}", lines.len(), lines.join("\n"));
        let too_long = |line: &&String| line.chars().count() > usize::from(COLUMNS);
        assert_eq!(lines.iter().find(too_long), None);
        lines.join("\n")
    };
    let shown = screen("incident show INC-1");
    for part in ["alice, bob", "isolate", "filled", "no-data-was-touched", "(40m ago)"] {
        assert!(shown.contains(part), "{part} is not in\n{shown}");
    }
    assert!(screen(&format!("plan show {plan}")).contains("recorded"));
    shell.run("incident close INC-1 --summary one-key-leaked-and-nobody-has-used-it").await.ok();
    assert!(screen("incident show INC-1").contains("one-key-leaked"));
}

/// What is taken away by a plan is shown and asked about; only a yes does it. Then a bar grows until each has its record.
#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_asked_about_and_its_records_are_counted_on_a_bar() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let shell = Shell::beside(&service);
    for number in 1..=3 {
        service.post("/v1/workers", serde_json::json!({ "id": format!("probe-{number}") })).await.expect(201);
    }
    let states = async || {
        let workers = service.get("/v1/workers").await.expect(200);
        let workers = workers["items"].as_array().unwrap().iter();
        workers.map(|worker| worker["state"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let isolate = || Terminal::run(shell.command("plan isolate pool:default"), COLUMNS, ROWS);
    tokio::task::block_in_place(|| {
        let mut terminal = isolate();
        terminal.shows("probe-3");
        terminal.shows("Refuse everything to 3 workers");
        terminal.shows("[y/N]");
        terminal.types("\n");
        terminal.shows("Nothing was changed.");
        assert_eq!(terminal.code(), Some(0));
    });
    assert_eq!(states().await, ["active"; 3]);
    tokio::task::block_in_place(|| {
        let mut terminal = isolate();
        terminal.shows("[y/N]");
        terminal.types("y\n");
        terminal.shows("/3 recorded");
        terminal.shows("Each of 3 items is recorded.");
        assert_eq!(terminal.code(), Some(0));
    });
    assert_eq!(states().await, ["isolated"; 3]);
}
