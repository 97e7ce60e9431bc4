//! The report of a leak as golden files, and its numbers. `UPDATE_EXPECT=1` writes the files.

use expect_test::expect_file;

use super::*;
use crate::domain::decide::tests::incidents::leak;

fn report(through: usize) -> Report {
    let mut report = Report::new("INC-7".parse().unwrap());
    leak().iter().take(through).for_each(|recorded| report.see(recorded));
    report
}

fn golden(name: &str) -> String {
    format!("{}/tests/golden/incident/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_report_is_the_same_each_time() {
    for (format, name) in [(Format::Markdown, "report.md"), (Format::Html, "report.html")] {
        let text = render(&report(usize::MAX), format).unwrap();
        assert_eq!(render(&report(usize::MAX), format).unwrap(), text);
        expect_file![golden(name)].assert_eq(&text);
    }
}

#[test]
fn what_people_have_written_is_text_in_either() {
    let markdown = render(&report(usize::MAX), Format::Markdown).unwrap();
    assert!(markdown.contains(r"\<b\>called\</b\> \| the \*owner\*"), "{markdown}");
    let page = render(&report(usize::MAX), Format::Html).unwrap();
    assert!(page.contains("&lt;b&gt;called&lt;/b&gt; | the *owner*"), "{page}");
    assert!(!page.contains("<b>") && !page.contains("http://") && !page.contains("src="), "{page}");
}

#[test]
fn uses_are_told_apart_by_when_the_credential_was_ended() {
    let report = report(usize::MAX);
    assert_eq!((report.uses.keys, report.uses.secrets, report.uses.workers()), (1, 1, 1));
    // A token and its renewal; afterwards nothing.
    let successes = report.uses.successes();
    assert_eq!((successes.before, successes.after), (2, 0));
    let failed = (report.uses.failed_before, report.uses.failed_around, report.uses.failed_after);
    assert_eq!(failed, (4, 0, 11));
}

#[test]
fn an_incident_that_is_not_there_yet_has_no_report() {
    assert!(matches!(render(&report(3), Format::Markdown), Err(RenderError::NoIncident)));
    let open = leak().iter().position(|recorded| recorded.event.kind() == "worker.isolated").unwrap();
    let text = render(&report(open), Format::Markdown).unwrap();
    assert!(text.contains("still open") && text.contains("not in this report"), "{text}");
}
