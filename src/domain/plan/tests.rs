//! Criteria have one spelling, and selectors one order.

use super::*;

fn criteria(texts: &[&str]) -> Vec<Criterion> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn a_criterion_has_one_spelling() {
    for text in [
        "everything",
        "pool:blue",
        "enrollment_secret:0000000000000000000007",
        "worker:web-1",
        "key:0000000000000000000007",
        "label:os=linux",
        "label:os=",
        "label:a=b=c",
        "operator:0000000000000000000007",
        "source:10.1.0.0/16",
        "source:10.1.2.3/32",
        "source:2001:db8::/32",
    ] {
        assert_eq!(text.parse::<Criterion>().map(|found| found.to_string()).as_deref(), Ok(text));
    }
    for text in ["", "all", "everything:", "pool:", "pool:a b", "key:7", "label:os", "label:=linux", "operator:x"] {
        assert_eq!(text.parse::<Criterion>(), Err(NotACriterion), "{text}");
    }
    for text in ["source:10.1.2.3", "source:10.1.2.3/16", "source:010.1.2.3/32", "source:2001:DB8::/32"] {
        assert_eq!(text.parse::<Criterion>(), Err(NotACriterion), "{text}");
    }
}

#[test]
fn a_selector_selects_something_and_is_the_same_in_any_order() {
    let new = |texts: &[&str]| Selector::new(criteria(texts), None, None);
    assert_eq!(new(&[]), Err(SelectorError::Empty));
    assert_eq!(new(&["everything", "pool:blue"]), Err(SelectorError::NotAlone));
    assert_eq!(new(&["pool:blue", "label:os=linux", "pool:blue"]), new(&["label:os=linux", "pool:blue"]));
    let many: Vec<Criterion> = (0..=CRITERIA_MAX).map(|number| format!("worker:w{number}").parse().unwrap()).collect();
    assert_eq!(Selector::new(many, None, None), Err(SelectorError::TooMany));
}
