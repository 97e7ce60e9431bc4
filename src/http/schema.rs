//! What the OpenAPI document says of single values: the same words, limits and patterns wherever a value occurs.
//!
//! Each function is named in a `schema_with` of a body or a parameter. The limits are the domain's own constants, so that
//! the document cannot promise what the domain refuses.

use serde_json::{Value, json};
use utoipa::openapi::schema::{AdditionalProperties, ArrayBuilder, SchemaType, Type};
use utoipa::openapi::{Array, KnownFormat, Object, ObjectBuilder, Schema, SchemaFormat};

use super::body::IDEMPOTENCY_KEY_CHARS_MAX;
use super::page::{LIMIT_DEFAULT, LIMIT_MAX, REPLAY_LIMIT_MAX};
use super::scope::{NODES_DEFAULT, NODES_MAX};
use super::wish::REASON_CHARS_MAX;
use crate::credential::strength::{CHOSEN_SECRET_CHARS_MAX, ENROLLMENT_SECRET_CHARS_MIN, STATIC_SECRET_CHARS_MIN};
use crate::domain::enrollment::{CIDRS_MAX, NAME_PATTERN_CHARS_MAX};
use crate::domain::incident::{NOTE_CHARS_MAX, PEOPLE_MAX, PERSON_CHARS_MAX, Severity, StepState, TITLE_CHARS_MAX};
use crate::domain::operator::Role;
use crate::domain::plan::{CRITERIA_MAX, Delivery, PLAN_KINDS, POLICY_POOLS_MAX};
use crate::domain::pool::{AUDIENCE_CHARS_MAX, DESCRIPTION_CHARS_MAX, SCOPE_CHARS_MAX, SCOPES_MAX};
use crate::domain::signing_key::SigningAlgorithm;
use crate::domain::tripwire::{Actions, HONEY_NOTE_CHARS_MAX};
use crate::domain::worker::{LABEL_CHARS_MAX, LABELS_MAX, NAME_CHARS_MAX, Standing};
use crate::log::entry::NUMBER_MAX;
use crate::log::schema::KINDS;
use crate::projection::ALL;
use crate::projection::job::Kind;

mod netguard;
mod readmission;
mod webhook;

pub(super) use netguard::{address_or_cidr, netguard_listing_or_null, netguard_version, netguard_with};
pub(super) use readmission::{bound, readmission_state, waits_for, wave_number, wave_size};
pub(super) use webhook::{webhook_kinds_or_null, webhook_outcome, webhook_url, webhook_url_or_null};

/// `.` and `..` are steps in a path, and no ids.
const CHOSEN_ID: &str = r"^(?!\.\.?$)[A-Za-z0-9._\-]{1,64}$";
/// 128 bits: 22 digits that begin with a greater one are more.
const MADE_ID: &str = "^[0-7][0-9A-Za-z]{21}$";
/// As `domain::fence::FenceScope` is written.
const FENCE_SCOPE: &str =
    r"^(everything|(pool|worker):(?!\.\.?$)[A-Za-z0-9._\-]{1,64}|enrollment_secret:[0-6][0-9A-Za-z]{21})$";
/// As `domain::plan::Criterion` is written, and a credential of which only the beginning is known. An address as loosely as
/// a pattern can say it.
const CRITERION: &str = concat!(
    r"^(everything|(pool|worker):(?!\.\.?$)[A-Za-z0-9._\-]{1,64}|(enrollment_secret|key|operator):[0-6][0-9A-Za-z]{21}",
    r"|credential:[0-6][0-9A-Za-z]{5,21}|source:[0-9a-f.:]{2,39}/[0-9]{1,3}",
    r"|label:[^=\u0000-\u001f\u007f-\u009f]{1,128}=[^\u0000-\u001f\u007f-\u009f]{0,128})$"
);
/// As it is handed out. Some 22 digits that begin with `7` are more than 128 bits; lists are in the order of ids that
/// begin with the time of their making, and those do not come so far for 8,000 years.
const MADE_ID_CURSOR: &str = "^[0-6][0-9A-Za-z]{21}$";
/// The characters of RFC 6749, section 3.3, and spaces between them.
const SCOPE_LIST: &str = r"^[ !#-\[\]-~]*$";
/// As `domain::key::OVERLAP_MAX` has it: at most 90 days.
const OVERLAP: &str = "^([0-9]{1,6}s|[0-9]{1,5}m|[0-9]{1,3}h|([0-9]|[1-8][0-9]|90)d)$";
const TOKEN_TTL: &str = "^([5-9]s|[1-9][0-9]{1,5}s|[1-9][0-9]{0,3}m|[1-9][0-9]?h|([1-9]|[12][0-9]|30)d)$";
/// Days of more digits are more seconds than are counted.
const DURATION: &str = "^([0-9]{1,6}(s|m|h)|[0-9]{1,4}d)$";
const NO_CONTROL_CHARACTER: &str = r"^[^\u0000-\u001f\u007f-\u009f]*$";

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn matching(pattern: &str) -> Object {
    text().pattern(Some(pattern)).build()
}

fn one_of<'a>(words: impl IntoIterator<Item = &'a str>) -> Object {
    text().enum_values(Some(words.into_iter().map(Value::from).collect::<Vec<_>>())).build()
}

/// Free text for people: it ends up in terminals and logs, where a control character is an attack.
fn prose(chars_min: usize, chars_max: usize) -> Object {
    let text = text().min_length(Some(chars_min)).max_length(Some(chars_max));
    text.pattern(Some(NO_CONTROL_CHARACTER)).build()
}

/// The same, or null.
fn or_null(mut value: Object) -> Object {
    if let SchemaType::Type(known) = &value.schema_type {
        value.schema_type = SchemaType::Array(vec![known.clone(), Type::Null]);
    }
    if let Some(words) = &mut value.enum_values {
        words.push(Value::Null);
    }
    value
}

/// Visible ASCII: what can stand in any header, log line and shell.
pub(super) fn idempotency_key() -> Object {
    text().min_length(Some(1)).max_length(Some(IDEMPOTENCY_KEY_CHARS_MAX)).pattern(Some("^[!-~]+$")).build()
}

pub(super) fn chosen_id() -> Object {
    matching(CHOSEN_ID)
}

pub(super) fn chosen_id_or_null() -> Object {
    or_null(chosen_id())
}

pub(super) fn made_id() -> Object {
    matching(MADE_ID)
}

pub(super) fn made_id_cursor() -> Object {
    matching(MADE_ID_CURSOR)
}

pub(super) fn made_id_or_null() -> Object {
    or_null(made_id())
}

pub(super) fn projection() -> Object {
    one_of(ALL.iter().map(|projection| projection.name))
}

pub(super) fn job_kind() -> Object {
    one_of([Kind::Rebuild, Kind::Verify].map(Kind::as_str))
}

pub(super) fn job_state() -> Object {
    one_of(["waiting", "running", "done", "differs", "failed"])
}

pub(super) fn time() -> Object {
    text().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime))).build()
}

pub(super) fn time_or_null() -> Object {
    or_null(time())
}

pub(super) fn duration() -> Object {
    let mut duration = matching(DURATION);
    duration.examples = vec![json!("5m")];
    duration
}

pub(super) fn duration_or_null() -> Object {
    let mut duration = or_null(matching(DURATION));
    duration.examples = vec![json!("24h"), json!("0s")];
    duration
}

/// Where a command is waited for.
pub(super) fn wait() -> Object {
    one_of(["local", "everywhere"])
}

pub(super) fn wait_timeout() -> Object {
    // Shorter ones are taken too, and mostly end before the nodes have answered.
    let mut timeout = matching("^([5-9]|1[0-9]|2[0-5])s$");
    timeout.examples = vec![json!("10s")];
    timeout
}

/// How long a rotated credential stays good beside the new one.
pub(super) fn overlap_or_null() -> Object {
    let mut overlap = or_null(matching(OVERLAP));
    overlap.examples = vec![json!("24h"), json!("0s")];
    overlap
}

/// What a token's lifetime can be: 5 seconds to 30 days.
pub(super) fn token_ttl_or_null() -> Object {
    let mut ttl = or_null(matching(TOKEN_TTL));
    ttl.examples = vec![json!("15m")];
    ttl
}

pub(super) fn reason() -> Object {
    prose(0, REASON_CHARS_MAX)
}

pub(super) fn reason_or_null() -> Object {
    or_null(reason())
}

pub(super) fn name() -> Object {
    prose(1, NAME_CHARS_MAX)
}

pub(super) fn name_or_null() -> Object {
    or_null(name())
}

pub(super) fn description_or_null() -> Object {
    or_null(text().max_length(Some(DESCRIPTION_CHARS_MAX)).build())
}

pub(super) fn audience_or_null() -> Object {
    or_null(prose(1, AUDIENCE_CHARS_MAX))
}

/// RFC 6749, section 3.3.
pub(super) fn scopes_or_null() -> Array {
    let scope = text().max_length(Some(SCOPE_CHARS_MAX)).pattern(Some(r"^[!#-\[\]-~]+$")).build();
    array_or_null(scope, SCOPES_MAX)
}

/// Scopes with a space between any two.
pub(super) fn scope_list_or_null() -> Object {
    or_null(scope_list())
}

/// The same, in a form.
pub(super) fn scope_list() -> Object {
    matching(SCOPE_LIST)
}

pub(super) fn grant_type() -> Object {
    one_of(["client_credentials"])
}

pub(super) fn token_record_or_null() -> Object {
    or_null(one_of(["each", "counted"]))
}

pub(super) fn labels() -> Object {
    let labels = ObjectBuilder::new()
        .schema_type(Type::Object)
        .property_names(Some(prose(1, LABEL_CHARS_MAX)))
        .additional_properties(Some(AdditionalProperties::from(Schema::from(prose(0, LABEL_CHARS_MAX)))));
    let mut labels = labels.max_properties(Some(LABELS_MAX)).build();
    labels.examples = vec![json!({ "site": "berlin" })];
    labels
}

pub(super) fn labels_or_null() -> Object {
    or_null(labels())
}

/// `name=value`, as a query asks for it.
pub(super) fn label_filter() -> Array {
    let item = text().pattern(Some("^[^=]+=")).max_length(Some(2 * LABEL_CHARS_MAX + 1)).build();
    ArrayBuilder::new().items(item).max_items(Some(LABELS_MAX)).build()
}

pub(super) fn worker_state() -> Object {
    one_of(Standing::ALL.map(Standing::as_str))
}

pub(super) fn key_kind() -> Object {
    one_of(["api_key", "static_secret"])
}

pub(super) fn key_state() -> Object {
    one_of(["live", "overlapping", "expired", "revoked", "fenced"])
}

pub(super) fn enrollment_state() -> Object {
    one_of(["live", "overlapping", "expired", "disabled", "fenced"])
}

pub(super) fn role() -> Object {
    one_of(Role::ALL.map(Role::as_str))
}

pub(super) fn role_or_null() -> Object {
    or_null(role())
}

pub(super) fn algorithm() -> Object {
    one_of(SigningAlgorithm::ALL.map(SigningAlgorithm::as_str))
}

pub(super) fn algorithm_or_null() -> Object {
    or_null(algorithm())
}

pub(super) fn signing_key_state() -> Object {
    one_of(["next", "active", "retired"])
}

pub(super) fn static_secret_or_null() -> Object {
    let secret = text().min_length(Some(STATIC_SECRET_CHARS_MIN)).max_length(Some(CHOSEN_SECRET_CHARS_MAX));
    or_null(secret.pattern(Some(r"^[A-Za-z0-9_\-]*$")).write_only(true).build())
}

pub(super) fn enrollment_secret_or_null() -> Object {
    let secret = text().min_length(Some(ENROLLMENT_SECRET_CHARS_MIN)).max_length(Some(CHOSEN_SECRET_CHARS_MAX));
    or_null(secret.pattern(Some("^[!-~]*$")).write_only(true).build())
}

pub(super) fn name_pattern_or_null() -> Object {
    or_null(text().max_length(Some(NAME_PATTERN_CHARS_MAX)).build())
}

pub(super) fn cidrs_or_null() -> Array {
    array_or_null(text().examples([json!("10.0.0.0/8")]).build(), CIDRS_MAX)
}

pub(super) fn cidr() -> Object {
    text().examples([json!("10.0.0.0/8")]).build()
}

fn array_or_null(item: Object, most: usize) -> Array {
    let mut array = ArrayBuilder::new().items(item).max_items(Some(most)).build();
    array.schema_type = SchemaType::Array(vec![Type::Array, Type::Null]);
    array
}

fn integer(least: u64, most: u64) -> ObjectBuilder {
    let integer = ObjectBuilder::new().schema_type(Type::Integer);
    integer.minimum(Some(least)).maximum(Some(most))
}

pub(super) fn count_or_null() -> Object {
    or_null(integer(1, NUMBER_MAX).build())
}

pub(super) fn position() -> Object {
    integer(0, NUMBER_MAX).build()
}

pub(super) fn position_or_null() -> Object {
    or_null(position())
}

/// Whose credentials a fence is about.
pub(super) fn fence_scope() -> Object {
    let mut scope = matching(FENCE_SCOPE);
    scope.examples = vec![json!("everything"), json!("pool:default")];
    scope
}

pub(super) fn criteria() -> Array {
    let mut criterion = matching(CRITERION);
    criterion.examples = vec![json!("pool:default"), json!("label:os=linux")];
    ArrayBuilder::new().items(criterion).min_items(Some(1)).max_items(Some(CRITERIA_MAX)).build()
}

/// How much of a graph.
pub(super) fn nodes_or_null() -> Object {
    or_null(integer(1, NODES_MAX as u64).default(Some(json!(NODES_DEFAULT))).build())
}

pub(super) fn plan_kind() -> Object {
    one_of(PLAN_KINDS)
}

pub(super) fn plan_kinds() -> Array {
    ArrayBuilder::new().items(plan_kind()).max_items(Some(PLAN_KINDS.len())).build()
}

pub(super) fn plan_kinds_or_null() -> Array {
    array_or_null(plan_kind(), PLAN_KINDS.len())
}

pub(super) fn pools() -> Array {
    ArrayBuilder::new().items(chosen_id()).max_items(Some(POLICY_POOLS_MAX)).build()
}

pub(super) fn pools_or_null() -> Array {
    array_or_null(chosen_id(), POLICY_POOLS_MAX)
}

pub(super) fn tripwire_actions_or_null() -> Array {
    array_or_null(one_of(["record", "isolate", "open_incident"]), Actions::WORDS_MAX)
}

pub(super) fn honey_note_or_null() -> Object {
    or_null(prose(1, HONEY_NOTE_CHARS_MAX))
}

pub(super) fn delivery() -> Object {
    one_of(Delivery::ALL.map(Delivery::as_str))
}

pub(super) fn delivery_or_null() -> Object {
    or_null(delivery())
}

pub(super) fn plan_state() -> Object {
    one_of(["made", "expired", "applied", "recorded"])
}

pub(super) fn severity() -> Object {
    one_of(Severity::ALL.map(Severity::as_str))
}

pub(super) fn severity_or_null() -> Object {
    or_null(severity())
}

pub(super) fn incident_state() -> Object {
    one_of(["open", "closed"])
}

pub(super) fn incident_title() -> Object {
    prose(1, TITLE_CHARS_MAX)
}

pub(super) fn incident_title_or_null() -> Object {
    or_null(incident_title())
}

pub(super) fn note() -> Object {
    prose(1, NOTE_CHARS_MAX)
}

/// What an incident is about: a selector, or nothing that is known yet.
pub(super) fn incident_scope() -> Array {
    let mut criteria = criteria();
    criteria.min_items = None;
    criteria
}

pub(super) fn incident_scope_or_null() -> Array {
    let mut scope = incident_scope();
    scope.schema_type = SchemaType::Array(vec![Type::Array, Type::Null]);
    scope
}

pub(super) fn report_format() -> Object {
    one_of(["md", "html"])
}

pub(super) fn people() -> Array {
    ArrayBuilder::new().items(prose(1, PERSON_CHARS_MAX)).max_items(Some(PEOPLE_MAX)).build()
}

pub(super) fn people_or_null() -> Array {
    array_or_null(prose(1, PERSON_CHARS_MAX), PEOPLE_MAX)
}

pub(super) fn step_id() -> Object {
    matching("^[a-z0-9-]{1,32}$")
}

pub(super) fn step_state() -> Object {
    one_of(StepState::NAMES)
}

/// What somebody can make of a step by hand.
pub(super) fn step_settling() -> Object {
    one_of(["done", "waived", "open"])
}

pub(super) fn template_or_null() -> Object {
    or_null(text().max_length(Some(TITLE_CHARS_MAX)).build())
}

pub(super) fn digest() -> Object {
    matching("^[0-9a-f]{64}$")
}

pub(super) fn limit() -> Object {
    integer(1, LIMIT_MAX as u64).default(Some(json!(LIMIT_DEFAULT))).build()
}

pub(super) fn replay_limit() -> Object {
    integer(1, REPLAY_LIMIT_MAX as u64).default(Some(json!(LIMIT_DEFAULT))).build()
}

pub(super) fn event_kind() -> Object {
    one_of(KINDS.iter().map(|(kind, _)| *kind))
}

pub(super) fn event_subject() -> Object {
    let mut subject = matching("^[a-z_]{1,32}:.{1,64}$");
    subject.examples = vec![json!("worker:web-1")];
    subject
}

pub(super) fn position_cursor() -> Object {
    matching("^[0-9]{1,15}$")
}

pub(super) fn order() -> Object {
    let mut order = one_of(["asc", "desc"]);
    order.default = Some(json!("asc"));
    order
}

/// A public JWK, or the data of an event: its members depend on its kind.
pub(super) fn any_object() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .additional_properties(Some(AdditionalProperties::FreeForm(true)))
        .build()
}
